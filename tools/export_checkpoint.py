"""A pre-trained trunk for other frameworks, and theirs for us.

python tools/export_checkpoint.py plrc.pth r50.pkl --to detectron2
python tools/export_checkpoint.py moco_v2.pth.tar moco.pth --to plrc
"""

import argparse
import sys

from plrc_plugin.checkpoints.export import TARGETS, export_trunk
from plrc_plugin.checkpoints.trunk import read_trunk
from plrc_plugin.errors import SettingsError


def parse_args():
    parser = argparse.ArgumentParser(
        description='Export the trunk of a checkpoint: of PLRC, of any OpenMMLab model, MoCo, '
        "DenseCL, PixPro, the authors' PLRC, torchvision or timm; .pth, .pth.tar or .safetensors."
    )
    parser.add_argument('checkpoint')
    parser.add_argument('output', help='file to write; .pkl for detectron2')
    parser.add_argument('--to', choices=TARGETS, required=True)
    parser.add_argument(
        '--prefix', help='where the trunk lives, e.g. momentum_backbone. (found by itself)'
    )
    return parser.parse_args()


def main():
    args = parse_args()
    try:
        trunk, prefix = read_trunk(args.checkpoint, args.prefix)
        names = export_trunk(trunk, args.output, args.to, source=f'{args.checkpoint}:{prefix}')
    except SettingsError as error:
        sys.exit(f'export_checkpoint: {error}')
    print(
        f'{args.output}: {len(names)} tensors of {args.checkpoint} (under {prefix!r}) for {args.to}'
    )


if __name__ == '__main__':
    main()
