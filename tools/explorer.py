"""Writes one HTML page in which any point of any image shows its affinities to all others.

tools/explorer.py work_dirs/x
tools/explorer.py CONFIG photos --checkpoints random work_dirs/x/epoch_12.pth work_dirs/y
"""

import argparse
from pathlib import Path


def parse_args():
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description='Write a page to explore affinities of points',
    )
    parser.add_argument('config', help='config of the pre-training run, or its work dir')
    parser.add_argument(
        'images',
        nargs='?',
        help='folder of images, at any depth, or shards (some of those that the run trains on)',
    )
    parser.add_argument(
        '--checkpoints',
        nargs='+',
        metavar='CHECKPOINT',
        help="files, work dirs for their newest, or 'random' for the untrained network "
        "('random', and the newest of the work dir that is given as config)",
    )
    parser.add_argument('--labels', nargs='+', help='headings of the checkpoints (their names)')
    parser.add_argument(
        '--count', type=int, default=40, help='number of images (default: %(default)s)'
    )
    parser.add_argument(
        '--size',
        type=int,
        help="side of the network input (14 of the network's strides, or 10 or "
        '7 where features of many channels need it)',
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('explorer.html'),
        help='page to write (default: %(default)s)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        metavar='KEY=VALUE',
        help='settings that replace those of the config, as for training',
    )
    return parser.parse_args()


def main():
    """Loads the networks and writes the page; what cannot work ends in one line, exit code 2."""
    args = parse_args()
    import plrc_plugin  # noqa: F401  registers everything, whatever the config imports
    from plrc_plugin.checkpoints.encoder import load_encoder
    from plrc_plugin.checkpoints.work_dir import checkpoints_of, headings
    from plrc_plugin.config_files import parse_options, read_config
    from plrc_plugin.errors import SettingsError, check_positive_integers
    from plrc_plugin.outputs import PAGE, check_output
    from plrc_plugin.terminal import one_line_errors
    from plrc_plugin.visualization.explorer import write_explorer
    from plrc_plugin.visualization.images import read_images, training_images

    with one_line_errors():
        check_output(args.out, PAGE)
        check_positive_integers('explorer', count=args.count)
        cfg = read_config(args.config, parse_options(args.cfg_options))
        files = checkpoints_of(args.config, args.checkpoints)
        labels = args.labels or headings(files)
        if len(labels) != len(files):
            raise SettingsError(f'{len(labels)} labels for {len(files)} checkpoints')
        if args.images:
            images = read_images(args.images, args.count)
        else:
            images = training_images(cfg, args.count)
        if not images:
            raise SettingsError('the images of the run are not here: name a folder of images')
        models = [load_encoder(cfg, file) for file in files]
        checkpoints = write_explorer(args.out, images, models, labels, args.size)
        for shown in checkpoints:
            size = '{rows} x {cols} cells'.format(**shown)
            error = "cosines within {error:.4f} of the network's".format(**shown)
            print(f'{shown["label"]}: {size}, {error}')
        print(
            f'explorer: {args.out}, {len(images)} images, {args.out.stat().st_size / 1e6:.1f} MB. '
            'Open it in a browser; it needs no network.'
        )


if __name__ == '__main__':
    main()
