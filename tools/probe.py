"""Measure what the frozen features of checkpoints tell about the masks of photographs.

    tools/probe.py work_dirs/plrc_demo
    tools/probe.py CONFIG --checkpoints random work_dirs/x/epoch_12.pth \
        --data voc --root data/VOCdevkit/VOC2012 --out probes.json

The probes are those of the config's val_evaluator, or of configs/_base_/probes.py where it has
none. One that another module defines is named there too, and the module in custom_imports.
"""

import argparse
import inspect
import json
import time
from pathlib import Path

from mmengine.device import get_device

USUAL_PROBES = Path(__file__).resolve().parents[1] / 'configs' / '_base_' / 'probes.py'


def parse_args():
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description='Probes of frozen features: linear and k-NN segmentation, affinity quality, '
        "classification, and others of the config's val_evaluator",
    )
    parser.add_argument('config', help='config of the pre-training run, or its work dir')
    parser.add_argument(
        '--checkpoints',
        '--checkpoint',
        nargs='+',
        help="files, work dirs for their newest, or 'random' for the untrained network "
        "('random', and the newest of the work dir that is given as config)",
    )
    parser.add_argument(
        '--probes',
        nargs='+',
        metavar='TYPE',
        help="registered probes with their usual settings, e.g. KNNSegmentationProbe (the config's "
        'val_evaluator, or else the four of configs/_base_/probes.py)',
    )
    parser.add_argument(
        '--data',
        help="layout of the data set: voc, coco, scenes, or one that the config's modules "
        "register (the config's val_dataloader, or else scenes)",
    )
    parser.add_argument(
        '--root',
        type=Path,
        help='folder: VOC2012, COCO, or of tools/make_scenes.py (data/scenes)',
    )
    parser.add_argument('--max-images', type=int, help='of each split, the first ones')
    parser.add_argument(
        '--features',
        choices=['trunk', 'projected'],
        default='trunk',
        help="the trunk's last map, or what the projector makes of it (default: %(default)s)",
    )
    parser.add_argument('--momentum', action='store_true', help='of the momentum encoder')
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
        help='side to which they are resized (default: %(default)s)',
    )
    parser.add_argument(
        '--photographs',
        metavar='FOLDER',
        help='of these photographs (the images that the config trains on)',
    )
    parser.add_argument('--size', type=int, help='side of the network input (224)')
    parser.add_argument('--cells', type=int, help='per side, of features and masks (14)')
    parser.add_argument(
        '--batch-size', type=int, default=32, help='images at a time (default: %(default)s)'
    )
    parser.add_argument(
        '--seeds',
        type=int,
        help='draws of cells for the segmentation probes: mean and spread (3)',
    )
    parser.add_argument(
        '--out',
        type=Path,
        help='JSON to write (probes.json of the work dir that is given as config, which the report '
        'shows; of a config none)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        metavar='KEY=VALUE',
        help='settings that replace those of the config, as for training',
    )
    args = parser.parse_args()
    if args.out and not args.out.parent.is_dir():  # said before, not after, minutes of work
        parser.error(f'--out: there is no folder {args.out.parent}')
    return args


def main():
    """Extracts, probes, prints a table and writes the numbers; mistakes are exit code 2."""
    args = parse_args()
    import plrc_plugin  # noqa: F401  registers everything, whatever the config imports
    from plrc_plugin.checkpoints.encoder import load_encoder
    from plrc_plugin.checkpoints.work_dir import checkpoints_of
    from plrc_plugin.config_files import parse_options, read_config
    from plrc_plugin.errors import SettingsError, check_positive_integers
    from plrc_plugin.evaluation.clean_statistics import (
        OF_CHECKPOINT,
        CleanStatistics,
        renew_statistics,
    )
    from plrc_plugin.evaluation.probes import evaluate_encoder
    from plrc_plugin.images.decoding import DecodingError
    from plrc_plugin.outputs import PROBES, check_output
    from plrc_plugin.terminal import one_line_errors
    from plrc_plugin.visualization.run import PROBE_RESULTS

    results, error = {}, None
    try:
        if args.out is None and Path(args.config).is_dir():
            args.out = Path(args.config) / PROBE_RESULTS
        if args.out:
            check_output(args.out, PROBES)
        check_positive_integers('probe', batch_size=args.batch_size)
        cfg = read_config(args.config, parse_options(args.cfg_options))
        probes = chosen_probes(cfg, args)
        data = chosen_data(cfg, args)
        images = CleanStatistics(args.statistics, args.statistics_size, args.photographs).images(
            cfg
        )
        checkpoints = checkpoints_of(args.config, args.checkpoints)
        projected = args.features == 'projected'
        fit, score = map(len, data.parts)
        print(
            f'{len(probes)} probes: fitted on {fit} images, scored on {score}, of {data.size} '
            f'pixels and {data.cells} x {data.cells} cells'
        )
        for checkpoint in checkpoints:
            start = time.monotonic()
            model = load_encoder(cfg, checkpoint, args.momentum, projected).to(get_device())
            statistics = OF_CHECKPOINT
            if images is not None:
                statistics = renew_statistics(model, images)
            print(f'{checkpoint}: {statistics}', flush=True)
            numbers = evaluate_encoder(
                model, data, probes, projected, args.batch_size, progress=True
            )
            results[checkpoint] = dict(numbers, seconds=time.monotonic() - start)
    except (SettingsError, DecodingError, OSError) as mistake:
        error = mistake
    if results:  # of a mistake in a later checkpoint, too: they took minutes
        print(table(results), flush=True)
        if args.out:
            shown = {name: str(v) if isinstance(v, Path) else v for name, v in vars(args).items()}
            settings = dict(shown, checkpoints=checkpoints, probes=probes)
            args.out.write_text(json.dumps(dict(settings=settings, results=results), indent=1))
            print(f'probes: {args.out}')
            if Path(args.config).is_dir():
                print(f'next: mim run plrc_plugin report {args.config}')
    with one_line_errors():
        if error:
            raise error


def chosen_probes(cfg, args) -> list[dict]:
    """Configs of the probes: named, of the config, or the usual ones; ``seeds`` as asked for.

    Raises:
        SettingsError: if one is not registered or has no such setting.
    """
    from plrc_plugin.config_files import read_config
    from plrc_plugin.engine.runner import readable_errors
    from plrc_plugin.errors import SettingsError
    from plrc_plugin.registry import METRICS

    if args.probes:
        probes = [dict(type=name) for name in args.probes]
    else:
        probes = cfg.get('val_evaluator') or read_config(USUAL_PROBES).val_evaluator
        probes = [dict(p) for p in (probes if isinstance(probes, (list, tuple)) else [probes])]
    for probe in probes:
        with readable_errors('val_evaluator', probe):
            kind = METRICS.get(probe['type'])
        if kind is None:
            raise SettingsError(
                f'there is no probe {probe["type"]!r}: registered are '
                f'{", ".join(METRICS.module_dict)}; a module that defines another one has to stand '
                "in the config's custom_imports"
            )
        if 'seeds' in inspect.signature(kind).parameters:
            probe['seeds'] = probe.get('seeds', 3) if args.seeds is None else args.seeds
        with readable_errors('val_evaluator', dict(probe, type=kind)):
            METRICS.build(probe)
    return probes


def chosen_data(cfg, args):
    """The images: of --data and --root, of the config's val_dataloader, or generated scenes.

    Raises:
        SettingsError: if they cannot be used.
    """
    from plrc_plugin.datasets.masked_images import masked_images
    from plrc_plugin.errors import SettingsError, check_positive_integers
    from plrc_plugin.evaluation.cells import ProbeCells
    from plrc_plugin.registry import DATASETS

    settings = dict((cfg.get('val_dataloader') or {}).get('dataset', {}))
    if args.data or args.root or not settings:
        where = args.data or 'scenes', args.root or Path('data/scenes')
        settings = dict(
            type='plrc_plugin.ProbeCells',
            fit=masked_images(*where, 'train'),
            score=masked_images(*where, 'val'),
        )
    asked = dict(size=args.size, cells=args.cells)
    settings.update({name: value for name, value in asked.items() if value is not None})
    if args.max_images is not None:
        check_positive_integers('probe', max_images=args.max_images)
        for part in ('fit', 'score'):
            settings[part] = dict(settings[part], max_images=args.max_images)
    data = DATASETS.build(settings)
    if not isinstance(data, ProbeCells):
        raise SettingsError(
            f'val_dataloader.dataset of {args.config} is {settings["type"]}, not '
            'plrc_plugin.ProbeCells: choose images by --data and --root'
        )
    return data


def table(results: dict) -> str:
    """A line per number, a column per checkpoint."""
    from plrc_plugin.checkpoints.work_dir import told_apart

    heads = told_apart(list(results))
    lines = [['', *heads]]
    for name in dict.fromkeys(name for numbers in results.values() for name in numbers):
        cells = [numbers.get(name) for numbers in results.values()]
        lines.append([name, *('' if cell is None else f'{cell:.4f}' for cell in cells)])
    widths = [max(map(len, column)) for column in zip(*lines)]
    return '\n'.join(
        '  '.join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    )


if __name__ == '__main__':
    main()
