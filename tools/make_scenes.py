"""Makes the demo's scenes: python tools/make_scenes.py data/scenes --num-train 1000."""

import argparse

from plrc_plugin.datasets.scenes.writing import make_scenes
from plrc_plugin.terminal import one_line_errors


def parse_args():
    parser = argparse.ArgumentParser(
        description='Generate multi-object scenes with boxes, instance masks and semantic masks '
        'from the photographs that scikit-image ships. A second run with the same settings does '
        'nothing.',
    )
    parser.add_argument('root', help='folder to make')
    parser.add_argument(
        '--num-train', type=int, default=1000, help='training scenes (default: %(default)s)'
    )
    parser.add_argument(
        '--num-val', type=int, default=100, help='validation scenes (default: %(default)s)'
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the set (default: %(default)s)'
    )
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(320, 240),
        metavar=('WIDTH', 'HEIGHT'),
        help='largest size of a scene, in pixels (320 240)',
    )
    parser.add_argument('--quiet', action='store_true', help='print no progress')
    return parser.parse_args()


def main():
    args = parse_args()
    with one_line_errors():
        make_scenes(
            args.root,
            args.num_train,
            args.num_val,
            seed=args.seed,
            size=tuple(args.size),
            progress=not args.quiet,
        )


if __name__ == '__main__':
    main()
