"""Draws affinity maps of points, for one or more checkpoints side by side (Fig. 3 and 4).

    tools/affinity_maps.py CONFIG photo.jpg folder --points .3,.5 \\
        --checkpoints random moco.pth plrc.pth --out affinity.png affinity.pdf
    tools/affinity_maps.py work_dirs/x photo.jpg
    tools/affinity_maps.py CONFIG --data voc --root data/VOCdevkit/VOC2012 --checkpoints plrc.pth
"""

import argparse
from pathlib import Path


def point(text: str):
    """'X,Y' as two fractions."""
    x, y = map(float, text.split(','))
    return x, y


def parse_args():
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description='Draw affinity maps of points',
    )
    parser.add_argument(
        'config',
        help='config of the pre-training run, or its work dir, for the architecture; '
        'the methods of the checkpoints may differ',
    )
    parser.add_argument('images', nargs='*', type=Path, help='images, or folders of them')
    parser.add_argument(
        '--points',
        nargs='+',
        type=point,
        default=[(0.5, 0.5)],
        metavar='X,Y',
        help='of the images, fractions of width and height: one each, or one for all (the middle)',
    )
    parser.add_argument(
        '--data',
        help='instead of images: those of a data set (voc, coco, scenes, or a layout that the '
        "config's modules register), with points in the middle of "
        'their largest objects',
    )
    parser.add_argument(
        '--root',
        type=Path,
        default=Path('data/scenes'),
        help='folder of --data (default: %(default)s)',
    )
    parser.add_argument(
        '--split', choices=['train', 'val'], default='val', help='of --data (default: %(default)s)'
    )
    parser.add_argument(
        '--checkpoints',
        nargs='+',
        metavar='CHECKPOINT',
        help="files, work dirs for their newest, or 'random' for the untrained network "
        "('random', and the newest of the work dir that is given as config)",
    )
    parser.add_argument('--labels', nargs='+', help='headings of the checkpoints (their names)')
    parser.add_argument('--momentum', action='store_true', help='of the momentum encoders')
    parser.add_argument(
        '--count',
        type=int,
        default=8,
        help='number of images, the first ones (default: %(default)s)',
    )
    parser.add_argument(
        '--per-row', type=int, default=2, help='images in a row (default: %(default)s)'
    )
    parser.add_argument(
        '--size', type=int, default=896, help='side of the network input (default: %(default)s)'
    )
    parser.add_argument(
        '--out',
        type=Path,
        nargs='+',
        default=[Path('affinity.png')],
        help='pictures to write, .png or .pdf (affinity.png)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        metavar='KEY=VALUE',
        help='settings that replace those of the config, as for training',
    )
    args = parser.parse_intermixed_args()
    if any(path.suffix not in ('.png', '.pdf') for path in args.out):
        parser.error('--out takes names that end in .png or .pdf')
    if bool(args.images) == bool(args.data):
        parser.error('give either images or --data')
    return args


def chosen_images(args) -> list:
    """(image, point) of each image to draw."""
    from plrc_plugin.datasets.masked_images import masked_images
    from plrc_plugin.errors import SettingsError
    from plrc_plugin.images.decoding import EXTENSIONS, read_image
    from plrc_plugin.registry import DATASETS
    from plrc_plugin.visualization.affinity import object_centre

    if args.data:
        data = DATASETS.build(masked_images(args.data, args.root, args.split, args.count))
        items = [data[i] for i in range(len(data))]
        return [(item.image, object_centre(item.instances)) for item in items]
    files = []
    for path in args.images:
        files += (
            sorted(p for p in path.rglob('*') if p.suffix.lower() in EXTENSIONS)
            if (path.is_dir())
            else [path]
        )
    files = files[: args.count]
    points = args.points * len(files) if len(args.points) == 1 else args.points
    if not files or len(points) != len(files):
        raise SettingsError(
            f'{len(args.points)} points for {len(files)} images: give one, or one for each image'
        )
    return [(read_image(file), p) for file, p in zip(files, points)]


def main():
    """Loads the networks, draws, and names the pictures; errors are one line, exit code 2."""
    args = parse_args()
    import plrc_plugin  # noqa: F401  registers everything, whatever the config imports
    from plrc_plugin.checkpoints.encoder import load_encoder
    from plrc_plugin.checkpoints.work_dir import checkpoints_of, headings
    from plrc_plugin.config_files import parse_options, read_config
    from plrc_plugin.errors import SettingsError, check_positive_integers
    from plrc_plugin.outputs import PICTURE, check_output
    from plrc_plugin.terminal import one_line_errors
    from plrc_plugin.visualization.affinity import affinity_gallery

    with one_line_errors():
        for path in args.out:
            check_output(path, PICTURE)
        check_positive_integers(
            'affinity_maps', size=args.size, per_row=args.per_row, count=args.count
        )
        cfg = read_config(args.config, parse_options(args.cfg_options))
        files = checkpoints_of(args.config, args.checkpoints)
        labels = args.labels or headings(files)
        if len(labels) != len(files):
            raise SettingsError(f'{len(labels)} labels for {len(files)} checkpoints')
        images, points = zip(*chosen_images(args))
        models = [load_encoder(cfg, file, momentum=args.momentum) for file in files]
        figure = affinity_gallery(
            images, points, models, labels, args.size, args.per_row, progress=True
        )
        for path in args.out:
            figure.savefig(path, dpi=130)
            print(f'affinity maps: {path}')


if __name__ == '__main__':
    main()
