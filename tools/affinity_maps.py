"""Draw affinity maps of points, for one or more checkpoints side by side (Fig. 3).

    tools/affinity_maps.py CONFIG IMAGE_FOLDER --checkpoints random work_dirs/x/epoch_12.pth
"""
import argparse
import json
from pathlib import Path

from mmengine.config import Config


def parse_args():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='Draw affinity maps of points')
    parser.add_argument('config', help='config of the pre-training run')
    parser.add_argument('images', type=Path, help='folder of images')
    parser.add_argument('--checkpoints', nargs='+', default=['random'],
                        help="files, or 'random' for the untrained network")
    parser.add_argument('--labels', nargs='+', help='headings of the checkpoints')
    parser.add_argument('--annotations', type=Path, help='COCO json: take points in its objects')
    parser.add_argument('--point', type=float, nargs=2, metavar=('X', 'Y'), default=(0.5, 0.5),
                        help='otherwise this one, fractions of width and height')
    parser.add_argument('--count', type=int, default=8, help='number of images')
    parser.add_argument('--size', type=int, default=896, help='side of the network input')
    parser.add_argument('--out', type=Path, default=Path('affinity.png'), help='.png or .pdf')
    return parser.parse_args()


def main():
    """Loads the networks, draws, and names the picture."""
    args = parse_args()
    import torch

    from plrc_plugin.registry import MODELS
    from plrc_plugin.transfer.checkpoint import load_tensors
    from plrc_plugin.views import read_image
    from plrc_plugin.visualization.affinity import affinity_gallery, object_centres

    cfg = Config.fromfile(args.config)
    models = []
    for checkpoint in args.checkpoints:
        torch.manual_seed(cfg.get('randomness', {}).get('seed') or 0)
        model = MODELS.build(cfg.model)
        if checkpoint != 'random':
            model.load_state_dict(load_tensors(checkpoint)['state_dict'])
        models.append(model)
    files = sorted(args.images.glob('*'))[:args.count]
    if args.annotations:
        points = object_centres(json.loads(args.annotations.read_text()), [f.name for f in files])
    else:
        points = [tuple(args.point)] * len(files)
    figure = affinity_gallery([read_image(f) for f in files], points, models,
                              args.labels or [Path(c).stem for c in args.checkpoints], args.size)
    figure.savefig(args.out, dpi=130)
    print(f'affinity maps: {args.out}')


if __name__ == '__main__':
    main()
