"""Probe the start and every finished run of the study; started again, it goes on where it stopped.

    export PLRC_DATA_ROOT=/path/to/5000/photographs PLRC_START=efficientnet-lite0-57934424.pth
    export PLRC_VOC=/path/to/VOCdevkit/VOC2012
    PYTHONPATH=. OMP_NUM_THREADS=1 python studies/starts/probe.py work_dirs/starts

``work_dirs/starts/probes`` gets a JSON for each trunk and kind of statistics, 'own' for those of
its checkpoint, 'start' for those of the start, 'clean400' for those of 400 of the photographs at
224 pixels, and so on. Seeds from 10 on are of the search for settings: those trunks are fitted and
scored on two parts of VOC's training images, under the name 'select'; all others are fitted on
train and scored on val.
"""

import argparse
import json
import os
import time
from pathlib import Path

import torch
from run import HERE, last_epoch, plan

import plrc_plugin  # noqa: F401  registers everything
from plrc_plugin.checkpoints.encoder import load_encoder
from plrc_plugin.config_files import read_config
from plrc_plugin.datasets.masked_images import masked_images
from plrc_plugin.evaluation.cells import ProbeCells
from plrc_plugin.evaluation.clean_statistics import CleanStatistics, renew_statistics
from plrc_plugin.evaluation.probes import evaluate_encoder
from plrc_plugin.models.norm_statistics import read_statistics, write_statistics

# One draw of cells, the same for all trunks: differences are of the trunks.
PROBES = [
    dict(type='plrc_plugin.LinearSegmentationProbe'),
    dict(type='plrc_plugin.KNNSegmentationProbe'),
    dict(type='plrc_plugin.AffinityQuality'),
    dict(type='plrc_plugin.ImageClassificationProbe'),
]
STATISTICS = {
    'own': None,
    'clean400': (400, 224),
    'clean100': (100, 224),
    'clean1600': (1600, 224),
    'clean400at112': (400, 112),
    'clean400at320': (400, 320),
    'clean400at448': (400, 448),
    'start': None,
}
FITTED = 700  # of the 1,000 training images, where settings are searched


def jobs() -> list:
    """(trunk, statistics, images), in the order in which they are worth most."""
    search = [name for name in plan() if name.endswith('seed10')]
    final = [name for name in plan() if name not in search]
    kept = [name for name in final if '-kept' in name]
    crops = [name for name in final if name not in kept]  # trained by statistics of their crops
    return [
        ('start', 'own', 'val'),
        *((name, 'own', 'select') for name in ('start', *search)),
        *((name, 'own', 'val') for name in kept),
        *((name, 'start', 'val') for name in crops),
        *((name, 'clean400', 'val') for name in ('start', *crops)),
        *((name, 'own', 'val') for name in crops if name.endswith('seed0')),
        *((name, kind, 'select') for kind in ('clean400', 'start') for name in search),
        *(('start', kind, 'select') for kind in STATISTICS if kind != 'start'),
    ]


def images(part: str) -> ProbeCells:
    """The images of 'val', or of 'select'."""
    root = Path(os.environ['PLRC_VOC'])
    if part == 'val':
        return ProbeCells(*(masked_images('voc', root, split) for split in ('train', 'val')))
    cells = ProbeCells(
        masked_images('voc', root, 'train', FITTED), masked_images('voc', root, 'train')
    )
    cells.parts[1].names = cells.parts[1].names[FITTED:]
    return cells


def checkpoint_of(folder: Path, name: str) -> Path:
    """What is probed under this name."""
    if name == 'start':
        return Path(os.environ['PLRC_START'])
    return folder / 'runs' / name / f'epoch_{last_epoch(plan()[name])}.pth'


def main():
    """Probes what is there; what is not finished is left for the next time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path, help="holds 'runs', gets 'probes'")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cfg = read_config(HERE / 'configs' / 'start_plrc.py')
    # A third of the time of the trunk, to 1e-6 the same numbers.
    cfg.model.data_preprocessor = dict(type='plrc_plugin.ViewsPreprocessor', channels_last=True)
    (args.folder / 'probes').mkdir(parents=True, exist_ok=True)
    for name, kind, part in jobs():
        out = args.folder / 'probes' / f'{name.replace("/", "-")}-{kind}-{part}.json'
        checkpoint = checkpoint_of(args.folder, name)
        if out.exists() or not checkpoint.exists():
            continue
        begun = time.process_time()
        model = load_encoder(cfg, str(checkpoint))
        model = model.to(memory_format=torch.channels_last)
        told = 'those of the checkpoint'
        if kind == 'start':
            start = load_encoder(cfg, os.environ['PLRC_START'])
            write_statistics(model.backbone, read_statistics(start.backbone))
            told = 'those of the start'
        if STATISTICS[kind]:
            told = renew_statistics(model, CleanStatistics(*STATISTICS[kind]).images(cfg))
        numbers = evaluate_encoder(model, images(part), PROBES)
        numbers['processor_seconds'] = time.process_time() - begun
        found = dict(trunk=name, statistics=kind, told=told, images=part, numbers=numbers)
        out.write_text(json.dumps(found, indent=1))
        line = ('linear_seg/mIoU', 'knn_seg/mIoU', 'affinity/auc_same_offset', 'classify/knn')
        print(out.name, *(f'{numbers[name]:.3f}' for name in line), flush=True)


if __name__ == '__main__':
    main()
