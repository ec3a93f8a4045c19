"""Measure what the frozen features of a checkpoint tell about the masks of photographs.

    tools/probe.py CONFIG --checkpoint random work_dirs/x/epoch_12.pth \
        --data voc --root data/VOCdevkit/VOC2012 --out probes.json
"""

import argparse
import json
import sys
import time
from pathlib import Path

from mmengine.config import Config


def parse_args():
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description='Probes of frozen features: linear and k-NN segmentation, affinity quality, '
        'classification',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('config', help='config of the pre-training run, for the architecture')
    parser.add_argument(
        '--checkpoint',
        nargs='+',
        default=['random'],
        help="files, or 'random' for the untrained network",
    )
    parser.add_argument('--data', choices=['voc', 'coco', 'scenes'], default='scenes')
    parser.add_argument(
        '--root',
        type=Path,
        default=Path('data/scenes'),
        help='folder: VOC2012, COCO, or of tools/make_scenes.py',
    )
    parser.add_argument('--max-images', type=int, help='of each split, the first ones')
    parser.add_argument(
        '--features',
        choices=['trunk', 'projected'],
        default='trunk',
        help="the trunk's last map, or what the projector makes of it",
    )
    parser.add_argument('--momentum', action='store_true', help='of the momentum encoder')
    parser.add_argument('--size', type=int, default=224, help='side of the network input')
    parser.add_argument('--cells', type=int, default=14, help='per side, of features and masks')
    parser.add_argument('--batch-size', type=int, default=32)
    parser.add_argument(
        '--seeds',
        type=int,
        default=3,
        help='draws of cells for the segmentation probes: mean and spread',
    )
    parser.add_argument('--out', type=Path, help='JSON to write')
    args = parser.parse_args()
    if args.out and not args.out.parent.is_dir():  # said before, not after, minutes of work
        parser.error(f'--out: there is no folder {args.out.parent}')
    return args


def main():
    """Extracts, probes, prints a table and writes the numbers."""
    args = parse_args()
    from plrc_plugin.checkpoints.encoder import load_encoder
    from plrc_plugin.datasets.masked_images import masked_images
    from plrc_plugin.errors import SettingsError, check_positive_integers
    from plrc_plugin.evaluation.cells import ProbeCells
    from plrc_plugin.evaluation.probes import evaluate_encoder

    settings = {name: str(v) if isinstance(v, Path) else v for name, v in vars(args).items()}
    results = {}
    try:
        check_positive_integers('probe', batch_size=args.batch_size, seeds=args.seeds)
        cfg = Config.fromfile(args.config)
        fit, score = (
            masked_images(args.data, args.root, split, args.max_images)
            for split in ('train', 'val')
        )
        data = ProbeCells(fit, score, args.size, args.cells)
        for checkpoint in args.checkpoint:
            start = time.monotonic()
            projected = args.features == 'projected'
            model = load_encoder(cfg, checkpoint, args.momentum, projected)
            results[checkpoint] = evaluate_encoder(
                model, data, projected, args.batch_size, args.seeds
            )
            results[checkpoint]['seconds'] = time.monotonic() - start
            print(table(checkpoint, results[checkpoint]), flush=True)
        if args.out:
            args.out.write_text(json.dumps(dict(settings=settings, results=results), indent=1))
            print(f'probes: {args.out}')
    except (SettingsError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)


def table(checkpoint: str, numbers: dict) -> str:
    """A line per number."""
    return '\n'.join(
        [checkpoint, *(f'  {name:<28}{value:10.4f}' for name, value in numbers.items())]
    )


if __name__ == '__main__':
    main()
