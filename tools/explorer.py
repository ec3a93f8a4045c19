"""Write one HTML page in which any point of any image shows its affinities to all others.

tools/explorer.py CONFIG IMAGE_FOLDER --checkpoints random work_dirs/x/epoch_12.pth
"""

import argparse
from pathlib import Path


def parse_args():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='Write a page to explore affinities of points')
    parser.add_argument('config', help='config of the pre-training run, or its work dir')
    parser.add_argument('images', help='folder of images, at any depth, or shards of them')
    parser.add_argument(
        '--checkpoints',
        nargs='+',
        required=True,
        help="files, or 'random' for the untrained network",
    )
    parser.add_argument('--labels', nargs='+', help='headings of the checkpoints')
    parser.add_argument('--count', type=int, default=40, help='number of images')
    parser.add_argument(
        '--size',
        type=int,
        help="side of the network input (14 of the network's strides, or 10 or "
        '7 where features of many channels need it)',
    )
    parser.add_argument('--out', type=Path, default=Path('explorer.html'))
    args = parser.parse_args()
    args.labels = args.labels or [Path(c).stem for c in args.checkpoints]
    if len(args.labels) != len(args.checkpoints):
        parser.error(f'{len(args.labels)} labels for {len(args.checkpoints)} checkpoints')
    return args


def main():
    """Loads the networks and writes the page; what cannot work ends in one line, exit code 2."""
    args = parse_args()
    from plrc_plugin.checkpoints.encoder import load_encoder
    from plrc_plugin.config_files import read_config
    from plrc_plugin.outputs import PAGE, check_output
    from plrc_plugin.terminal import one_line_errors
    from plrc_plugin.visualization.explorer import write_explorer
    from plrc_plugin.visualization.images import read_images

    with one_line_errors():
        check_output(args.out, PAGE)
        images = read_images(args.images, args.count)
        cfg = read_config(args.config)
        models = [load_encoder(cfg, checkpoint) for checkpoint in args.checkpoints]
        checkpoints = write_explorer(args.out, images, models, args.labels, args.size)
        for shown in checkpoints:
            size = '{rows} x {cols} cells'.format(**shown)
            error = "cosines within {error:.4f} of the network's".format(**shown)
            print(f'{shown["label"]}: {size}, {error}')
        print(f'explorer: {args.out}, {args.out.stat().st_size / 1e6:.1f} MB')


if __name__ == '__main__':
    main()
