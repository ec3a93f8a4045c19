"""A pre-trained trunk for other frameworks, and theirs for us.

python tools/export_checkpoint.py plrc.pth r50.pkl --to detectron2
python tools/export_checkpoint.py moco_v2.pth.tar moco.pth --to plrc

--import takes a module that registers further targets, see docs/extending.md.
"""

import argparse
import os.path as osp

from plrc_plugin.checkpoints.export import TARGETS, export_trunk
from plrc_plugin.checkpoints.trunk import read_trunk
from plrc_plugin.config_files import import_modules
from plrc_plugin.errors import SettingsError
from plrc_plugin.outputs import check_output
from plrc_plugin.terminal import one_line_errors


def parse_args():
    parser = argparse.ArgumentParser(
        description='Export the trunk of a checkpoint: of PLRC, of any OpenMMLab model, MoCo, '
        "DenseCL, PixPro, the authors' PLRC, torchvision or timm; .pth, .pth.tar or .safetensors."
    )
    parser.add_argument('checkpoint')
    parser.add_argument('output', help='file to write; .pkl for detectron2')
    parser.add_argument(
        '--to',
        required=True,
        metavar='TARGET',
        help=f'one of {", ".join(TARGETS)}, or one that --import registers',
    )
    parser.add_argument(
        '--import',
        nargs='+',
        default=[],
        dest='imports',
        metavar='MODULE',
        help='Python modules that register further targets',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace OUTPUT where it exists')
    parser.add_argument(
        '--prefix', help='where the trunk lives, e.g. momentum_backbone. (found by itself)'
    )
    return parser.parse_args()


def main():
    args = parse_args()
    with one_line_errors():
        check_output(args.output, overwrite=args.overwrite, setting='OUTPUT')
        if osp.exists(args.output) and osp.realpath(args.output) == osp.realpath(args.checkpoint):
            raise SettingsError(f'{args.output} is the checkpoint itself: give another name')
        import_modules(args.imports)
        trunk, prefix = read_trunk(args.checkpoint, args.prefix)
        names = export_trunk(trunk, args.output, args.to, source=f'{args.checkpoint}:{prefix}')
        print(
            f'{args.output}: {len(names)} tensors of {args.checkpoint} (under {prefix!r}) for '
            f'{args.to}'
        )


if __name__ == '__main__':
    main()
