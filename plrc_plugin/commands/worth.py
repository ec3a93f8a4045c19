r"""``python -m plrc_plugin worth PHOTOS --labels LABELS --out DIR``: is pre-training worth it?

    python -m plrc_plugin worth photos/ --labels labels/ --weights resnet50.pth \
        --hours 8 --out worth

A start as it is, and continued by PLRC, MoCo v2 and region-level contrast on your photographs,
compared on your labels: frozen, and fine-tuned with 1, 10 and 100% of them, over seeds. DIR gets
page.html with the answer, and table.md. Ended at any point, the same command goes on.
docs/worth.md says more.
"""

import argparse
from pathlib import Path

from plrc_plugin.config_files import parse_options
from plrc_plugin.terminal import one_line_errors
from plrc_plugin.worth.comparing import Asked, compare
from plrc_plugin.worth.methods import METHODS


def main(arguments: list[str]) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog='python -m plrc_plugin worth',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('photos', type=Path, help='folder of photographs, flat or nested')
    parser.add_argument(
        '--labels',
        type=Path,
        required=True,
        help="json of COCO, folder of VOC's XML files, or folder of masks (PNG)",
    )
    parser.add_argument('--images', type=Path, help='folder of the labelled images (beside them)')
    parser.add_argument(
        '--test',
        type=Path,
        help='your own split: a .txt with the names of the test images, or a second labelled set '
        '(a quarter of the labelled images, by their content)',
    )
    parser.add_argument(
        '--backbone',
        default='resnet50',
        help='resnet18 to resnet152, or a name of timm or torchvision (resnet50)',
    )
    parser.add_argument('--weights', type=Path, help='the start (docs/weights.md); else random')
    parser.add_argument('--hours', type=float, required=True, help='budget of everything')
    parser.add_argument('--out', type=Path, required=True, help='folder of all that is made')
    parser.add_argument(
        '--methods',
        nargs='+',
        default=list(METHODS),
        metavar='METHOD',
        help=f'of {", ".join(METHODS)}, or NAME=CONFIG of pre-training (all three)',
    )
    parser.add_argument(
        '--fractions',
        nargs='+',
        type=float,
        default=[1, 10, 100],
        metavar='PERCENT',
        help='of the labels (1 10 100)',
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], help='(0 1 2)')
    parser.add_argument('--only', choices=['frozen', 'finetuned'], help='leave the other out')
    parser.add_argument(
        '--keep-test-images',
        action='store_true',
        help='pre-train on test images too, if they are among the photographs',
    )
    parser.add_argument('--gpus', type=int, default=1, help='processes of each run (1)')
    parser.add_argument('--plan', action='store_true', help='show the plan and end')
    parser.add_argument(
        '--cfg-options', nargs='+', metavar='KEY=VALUE', help='settings of every pre-training'
    )
    parser.add_argument(
        '--finetune-options', nargs='+', metavar='KEY=VALUE', help='settings of every fine-tuning'
    )
    args = parser.parse_args(arguments)
    what_remains = 'What is finished is kept: the same command goes on.'
    with one_line_errors(lambda: what_remains):
        page = compare(
            Asked(
                photos=args.photos,
                labels=args.labels,
                out=args.out,
                hours=args.hours,
                backbone=args.backbone,
                weights=args.weights,
                images=args.images,
                test=args.test,
                methods=args.methods,
                percents=args.fractions,
                seeds=args.seeds,
                only=args.only,
                keep_test_images=args.keep_test_images,
                gpus=args.gpus,
                plan_only=args.plan,
                options=parse_options(args.cfg_options),
                finetune_options=parse_options(args.finetune_options),
            )
        )
        if not args.plan:
            print(f'page: {page}')
    return 0
