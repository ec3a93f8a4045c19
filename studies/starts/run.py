"""Train the runs of the study, one after the other; started again, it goes on where it stopped.

    export PLRC_DATA_ROOT=/path/to/5000/photographs PLRC_START=efficientnet-lite0-57934424.pth
    PYTHONPATH=. OMP_NUM_THREADS=1 python studies/starts/run.py work_dirs/starts

A run that has its last checkpoint is skipped, one that was cut off is resumed. Several calls may
share a folder: a run that another call is at is refused and passed over.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TRAIN = HERE.parents[1] / 'tools' / 'train.py'
EPOCHS = 2


METHODS = ['plrc', 'mocov2', 'plrc_without_la', 'region', 'densecl', 'plrc_half']
# What the search changes, by the part of a run's name that asks for it.
CHANGES = {
    'lr10': ['optim_wrapper.optimizer.lr=0.01'],
    'lr30': ['optim_wrapper.optimizer.lr=0.03'],
    'epochs8': ['train_cfg.max_epochs=8'],
    'kept': ['model.keep.norm_eval=True'],
    'anchor': ['model.keep.anchor.distillation=1.0'],
    'projector': ['model.keep.projector_epochs=1', 'train_cfg.max_epochs=3'],
    'size160': ['train_dataloader.dataset.pipeline.0.size=160'],
}
# Settings are searched with seed 10, which the table does not use.
SEARCH = [
    'plrc',
    'plrc-lr10',
    'plrc-lr30',
    'plrc-epochs8',
    'plrc-kept',
    'plrc-kept-lr10',
    'plrc-kept-anchor',
    'plrc-kept-projector',
    'plrc-kept-size160',
    'mocov2-kept',
]


def plan() -> dict:
    """{name: options of ``train.py``} in the order of training, where a name is
    '<method>[-<change>...]/seed<k>' and the config is ``start_<method>.py``."""
    names = [f'{method}/seed{seed}' for seed in range(3) for method in METHODS]
    names += [f'{name}/seed10' for name in SEARCH[:6]]
    names += [f'{method}-kept/seed{seed}' for seed in range(2) for method in METHODS[:3]]
    names += [f'{name}/seed10' for name in SEARCH[6:]]
    names += [f'{method}-kept/seed{seed}' for seed in range(3) for method in METHODS]
    return {name: options(name) for name in names}  # each once


def options(name: str) -> list:
    """Those that the changes in a name ask for."""
    return [option for change in name.split('/')[0].split('-')[1:] for option in CHANGES[change]]


def last_epoch(settings: list) -> int:
    """The number of the checkpoint that a run ends with."""
    given = [o.partition('=')[2] for o in settings if o.startswith('train_cfg.max_epochs=')]
    return int(given[0]) if given else EPOCHS


def main():
    """Runs the plan."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path, help='of the work dirs')
    parser.add_argument('--only', nargs='+', metavar='NAME', help='of the plan, e.g. plrc/seed0')
    args = parser.parse_args()
    # glibc gives large blocks back after every use, which costs a sixth of a step.
    memory = dict(MALLOC_MMAP_THRESHOLD_='1000000000', MALLOC_TRIM_THRESHOLD_='2000000000')
    for name, settings in plan().items():
        folder = args.folder / name
        if (args.only and name not in args.only) or (
            folder / f'epoch_{last_epoch(settings)}.pth'
        ).exists():
            continue
        method, seed = name.split('-')[0].split('/')[0], name.rpartition('seed')[2]
        print(time.strftime('%F %T'), name, flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / 'train.log', 'a') as log:
            subprocess.run(
                [
                    *(sys.executable, TRAIN, HERE / 'configs' / f'start_{method}.py'),
                    *('--work-dir', folder, '--resume'),
                    *('--cfg-options', f'randomness.seed={seed}', *settings),
                ],
                stdout=log,
                stderr=log,
                env=dict(os.environ, **memory),
            )
    print(time.strftime('%F %T'), 'nothing is left to run', flush=True)


if __name__ == '__main__':
    main()
