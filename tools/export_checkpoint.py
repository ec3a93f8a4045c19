"""A pre-trained trunk for other frameworks, and theirs for us.

python tools/export_checkpoint.py plrc.pth r50.pkl --to detectron2
python tools/export_checkpoint.py moco_v2.pth.tar moco.pth --to plrc

--statistics 400 estimates batch-norm statistics anew on 400 whole photographs: those that
pre-training leaves are of small, jittered crops, and detectors may keep them (norm_eval=True).

--import takes a module that registers further targets, see docs/extending.md.
"""

import argparse
import os.path as osp
from pathlib import Path

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
    parser.add_argument(
        '--statistics',
        type=int,
        metavar='N',
        help='estimate batch-norm statistics anew on N whole photographs (those of the checkpoint)',
    )
    parser.add_argument(
        '--statistics-size',
        type=int,
        default=224,
        help='side in pixels to which they are resized (224)',
    )
    parser.add_argument(
        '--photographs',
        metavar='FOLDER',
        help='of these photographs (the images that the config trains on)',
    )
    parser.add_argument(
        '--config',
        help='with --statistics: config of the pre-training run, or its work dir (the folder of '
        'CHECKPOINT)',
    )
    return parser.parse_args()


def renewed_trunk(args) -> tuple[dict, str, str]:
    """The trunk with statistics of photographs, its prefix, and what the statistics are."""
    from mmengine.device import get_device

    from plrc_plugin.checkpoints.encoder import load_encoder
    from plrc_plugin.config_files import read_config
    from plrc_plugin.evaluation.clean_statistics import CleanStatistics, renew_statistics

    cfg = read_config(args.config or Path(args.checkpoint).absolute().parent)
    images = CleanStatistics(args.statistics, args.statistics_size, args.photographs).images(cfg)
    momentum = args.prefix == 'momentum_backbone.'
    if args.prefix and not momentum and args.prefix != 'backbone.':
        raise SettingsError(
            f'--statistics: --prefix {args.prefix} is no encoder of the config; leave it out, or '
            'give backbone. or momentum_backbone.'
        )
    model = load_encoder(cfg, args.checkpoint, momentum).to(get_device())
    told = renew_statistics(model, images)
    trunk = {name: value.cpu() for name, value in model.backbone.state_dict().items()}
    return trunk, args.prefix or 'backbone.', told


def main():
    args = parse_args()
    with one_line_errors():
        check_output(args.output, overwrite=args.overwrite, setting='OUTPUT')
        if osp.exists(args.output) and osp.realpath(args.output) == osp.realpath(args.checkpoint):
            raise SettingsError(f'{args.output} is the checkpoint itself: give another name')
        import_modules(args.imports)
        told = ''
        if args.statistics is not None:
            trunk, prefix, told = renewed_trunk(args)
            print(told)
        elif args.photographs or args.config:
            raise SettingsError('--photographs and --config belong to --statistics N: add it')
        else:
            trunk, prefix = read_trunk(args.checkpoint, args.prefix)
        source = '; '.join(part for part in (f'{args.checkpoint}:{prefix}', told) if part)
        names = export_trunk(trunk, args.output, args.to, source=source)
        print(
            f'{args.output}: {len(names)} tensors of {args.checkpoint} (under {prefix!r}) for '
            f'{args.to}'
        )


if __name__ == '__main__':
    main()
