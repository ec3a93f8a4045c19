"""From the command to the first iteration over very many file names, and memory over epochs."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from report import ROOT, arguments, bars, columns_median, photos, table, write
from torch.utils.data import DataLoader, Dataset

from plrc_plugin.datasets.collate import collate_views
from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.datasets.samplers import KeyedSampler

TARGET = 30  # seconds
PHASES = (
    'Python, imports',
    'config, model, hooks',
    'file names',
    'worker, first batch',
    'first iteration',
)
# Runs a script as Python would, and prints when each phase is over.
CLOCK = """
import os, runpy, sys, time
from unittest import mock
began = float(sys.argv[1])
sys.argv = sys.argv[2:]
def over():
    print('over', time.time() - began, flush=True)
def then(function):
    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        over()
        return result
    return call
import plrc_plugin.datasets.image_folder as names
from plrc_plugin.engine import PretrainRunner, ResumableTrainLoop
over()
PretrainRunner.from_cfg = then(PretrainRunner.from_cfg)
names.image_index = then(names.image_index)
iteration = ResumableTrainLoop.run_iter
def run_iter(*args):
    over()
    iteration(*args)
    over()
    os._exit(0)
ResumableTrainLoop.run_iter = run_iter
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def make_tree(root: Path, photo: str, folders: int, per_folder: int) -> None:
    """Links to one photograph, in a past that lets the list of them be remembered."""
    for f in range(folders):
        folder = root / f'n{f:08d}'
        folder.mkdir(parents=True)
        for i in range(per_folder):
            os.symlink(photo, f'{folder}/n{f:08d}_{i:05d}.JPEG')
        os.utime(folder, (0, 0))
    os.utime(root, (0, 0))


def first_iteration(root: Path, work: Path, cache: Path) -> list:
    """Seconds by the clock that each phase takes, from the command on."""
    command = [
        'tools/train.py',
        'configs/plrc_in1k.py',
        '--work-dir',
        str(work),
        '--cfg-options',
        'model.backbone.depth=18',
        'train_dataloader.num_workers=1',
        'train_dataloader.batch_size=8',
        f'train_dataloader.dataset.data_root={root}',
    ]
    output = subprocess.run(
        [sys.executable, '-c', CLOCK, str(time.time()), *command],
        cwd=ROOT,
        env=dict(os.environ, XDG_CACHE_HOME=str(cache)),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ).stdout
    ends = [float(line.split()[1]) for line in output.splitlines() if line.startswith('over ')]
    if len(ends) != len(PHASES):
        raise RuntimeError(f'no first iteration:\n{output[-3000:]}')
    return [end - start for start, end in zip([0, *ends], ends)]


class ListOfNames(Dataset):
    """What data sets usually keep: a Python list of strings."""

    def __init__(self, data: ImageFolder):
        self.names = [data.get_data_info(i)['img_path'] for i in range(len(data))]

    def __len__(self):
        return len(self.names)

    def __getitem__(self, key):
        return len(self.names[key.index])


def worker_memory(data: Dataset, epochs: int, batch: int, collate_fn=None) -> list:
    """Memory of a loader's worker that it shares with no one, in MB: after the first batch, and
    after each epoch."""
    sampler = KeyedSampler(data, seed=0)
    loader = DataLoader(
        data,
        batch,
        sampler=sampler,
        num_workers=1,
        persistent_workers=True,
        multiprocessing_context='fork',
        collate_fn=collate_fn,
    )
    memory = []

    def record():
        (worker,) = multiprocessing.active_children()
        memory.append(psutil.Process(worker.pid).memory_full_info().uss / 1e6)

    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for _ in loader:
            if not memory:
                record()
        record()
    return memory


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument('--folders', type=int, default=1000)
    parser.add_argument('--per-folder', type=int, default=1280)
    parser.add_argument('--epochs', type=int, default=4)
    parser.add_argument('--read', type=int, default=192, help='images that are also decoded')
    args = parser.parse_args()
    source = photos(args.photos)
    photo = ImageFolder(source, pipeline=[lambda record: record['img_path']], test_mode=True)[0]
    with tempfile.TemporaryDirectory() as place:
        root, work, cache = (Path(place, name) for name in ('images', 'work', 'cache'))
        make_tree(root, os.path.abspath(photo), args.folders, args.per_folder)
        listed = first_iteration(root, work, cache)
        remembered = columns_median(
            [first_iteration(root, work, cache) for _ in range(args.rounds)]
        )
        names = ImageFolder(str(root), pipeline=[lambda record: len(record['img_path'])])
        count = len(names)
        views = ImageFolder(
            source,
            indices=args.read,
            pipeline=[
                dict(type='plrc_plugin.TwoViews', size=224),
                dict(type='plrc_plugin.SampleRegionPoints'),
            ],
        )
        memory = {
            'names alone, as here': worker_memory(names, args.epochs, 1024),
            'names alone, a Python list': worker_memory(ListOfNames(names), args.epochs, 1024),
            f'{len(views)} images read': worker_memory(views, args.epochs, 32, collate_views),
        }
    runs = {'listed anew': listed, f'remembered, median of {args.rounds}': remembered}
    write(
        'startup',
        f'Start-up over {count:,} file names',
        'Seconds by the clock from the command to the end of the first iteration of '
        '`configs/plrc_in1k.py`, with ResNet-18, batch 8 and one worker. The names are links to '
        f'one photograph in {args.folders} folders. Target: {TARGET} s, remembered.',
        table(
            ['file names', *PHASES, 'in all'],
            [[name, *run, sum(run)] for name, run in runs.items()],
        ),
        bars(
            'startup',
            {name: sum(run) for name, run in runs.items()},
            'seconds from the command to the end of the first iteration',
            TARGET,
        ),
        "Memory of a loader's worker that it shares with no process (USS), in MB. Names alone: "
        f'all {count:,} of them are handed out in every epoch, and no image is opened.\n\n'
        + table(
            ['worker', 'after a batch', *(f'after epoch {i + 1}' for i in range(args.epochs))],
            [[name, *row] for name, row in memory.items()],
        ),
    )


if __name__ == '__main__':
    main()
