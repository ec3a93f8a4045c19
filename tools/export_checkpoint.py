"""A pre-trained trunk for other frameworks, and theirs for us.

python tools/export_checkpoint.py plrc.pth r50.pkl --to detectron2
python tools/export_checkpoint.py moco_v2.pth.tar moco.pth --to plrc
python tools/export_checkpoint.py plrc.pth plrc.onnx --to onnx --config configs/plrc_in1k.py
python tools/export_checkpoint.py plrc.pth go_on.pth --to plrc --parts projector queue

--statistics 400 estimates batch-norm statistics anew on 400 whole photographs: those that
pre-training leaves are of small, jittered crops, and detectors may keep them (norm_eval=True).

--import takes a module that registers further targets, see docs/extending.md.
"""

import argparse
import os.path as osp
from pathlib import Path

from plrc_plugin.checkpoints.export import TARGETS, export_parts, export_trunk, keeps_style
from plrc_plugin.checkpoints.reading_record import RECORD, find_record, write_record
from plrc_plugin.checkpoints.trunk import find_trunk, read_file
from plrc_plugin.checkpoints.work_dir import checkpoint_of
from plrc_plugin.config_files import import_modules, parse_options, read_config
from plrc_plugin.errors import SettingsError
from plrc_plugin.outputs import check_output
from plrc_plugin.terminal import one_line_errors


def parse_args():
    parser = argparse.ArgumentParser(
        description='Export the trunk of a checkpoint: of PLRC, of any OpenMMLab model, MoCo, '
        "DenseCL, PixPro, the authors' PLRC, torchvision or timm; .pth, .pth.tar or .safetensors.",
    )
    parser.add_argument('checkpoint', help='file, or the work dir of a run for its newest')
    parser.add_argument('output', help='file to write; .pkl for detectron2')
    parser.add_argument(
        '--to',
        required=True,
        metavar='TARGET',
        help=f'one of {", ".join(TARGETS)}, onnx, or one that --import registers',
    )
    parser.add_argument(
        '--import',
        nargs='+',
        default=[],
        dest='imports',
        metavar='MODULE',
        help='Python modules that register further targets',
    )
    parser.add_argument(
        '--parts',
        nargs='+',
        metavar='PART',
        help='with --to plrc: the modules of pre-training to keep beside the trunk, e.g. projector '
        "momentum_backbone queue, or all of them by 'all'",
    )
    parser.add_argument(
        '--float32', action='store_true', help='accept weights that are rounded to half precision'
    )
    parser.add_argument(
        '--size',
        type=int,
        default=224,
        help='with --to onnx: side of the images (default: %(default)s)',
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
        help='side in pixels to which they are resized (default: %(default)s)',
    )
    parser.add_argument(
        '--photographs',
        metavar='FOLDER',
        help='of these photographs (the images that the config trains on)',
    )
    parser.add_argument(
        '--config',
        help='with --statistics and --to onnx: config of the pre-training run, or its work dir '
        '(the folder of CHECKPOINT)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        metavar='KEY=VALUE',
        help='settings that replace those of the config, as for training',
    )
    return parser.parse_args()


def config_of(args):
    """The config that was given, or that of the run in the folder of the checkpoint."""
    where = args.config or Path(args.checkpoint).absolute().parent
    return read_config(where, parse_options(args.cfg_options))


def renewed_trunk(args) -> tuple[dict, str, str]:
    """The trunk with statistics of photographs, its prefix, and what the statistics are."""
    from mmengine.device import get_device

    from plrc_plugin.checkpoints.encoder import load_encoder
    from plrc_plugin.evaluation.clean_statistics import CleanStatistics, renew_statistics

    cfg = config_of(args)
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


def write_onnx(args):
    from plrc_plugin.checkpoints.encoder import load_encoder
    from plrc_plugin.checkpoints.onnx_export import export_onnx
    from plrc_plugin.models.input_channels import channels_of

    trunk = load_encoder(config_of(args), args.checkpoint).backbone
    export_onnx(trunk, args.output, args.size, channels_of(trunk))
    print(f'{args.output}: the trunk of {args.checkpoint} for images of {args.size} pixels')


def main():
    args = parse_args()
    with one_line_errors():
        check_output(args.output, overwrite=args.overwrite, setting='OUTPUT')
        if osp.exists(args.output) and osp.realpath(args.output) == osp.realpath(args.checkpoint):
            raise SettingsError(f'{args.output} is the checkpoint itself: give another name')
        args.checkpoint = checkpoint_of(args.checkpoint)
        import_modules(args.imports)
        told, style = '', None
        if args.parts:
            if args.to != 'plrc':
                raise SettingsError('--parts are for --to plrc: no other framework has them')
            names = export_parts(args.output, args.checkpoint, args.parts)
            print(f'{args.output}: {len(names)} tensors of {args.checkpoint}')
            return
        if args.to == 'onnx':
            write_onnx(args)
            return
        if args.statistics is not None:
            trunk, prefix, told = renewed_trunk(args)
            style = find_trunk(read_file(args.checkpoint)).style
            print(told)
        elif args.photographs or args.config:
            raise SettingsError(
                '--photographs and --config belong to --statistics N, and --config to --to onnx'
            )
        else:
            found = find_trunk(read_file(args.checkpoint, half=args.float32), prefix=args.prefix)
            trunk, prefix, style = found.tensors, found.prefix, found.style
        source = '; '.join(part for part in (f'{args.checkpoint}:{prefix}', told) if part)
        names = export_trunk(trunk, args.output, args.to, source, style)
        record = find_record(args.checkpoint)
        if record is not None:
            write_record(args.output, record)
            print(f'{args.output}.{RECORD}: {record["channels"]} channels, and their windows')
        print(
            f'{args.output}: {len(names)} tensors of {args.checkpoint} (under {prefix!r}) for '
            f'{args.to}'
        )
        if style:
            kept = '' if keeps_style(args.to) else '; the file has no place for it'
            print(f'input of the weights: {style}{kept}')


if __name__ == '__main__':
    main()
