"""From the command to the first iteration over very many file names, and memory over epochs."""
import os
import re
import subprocess
import sys
import tempfile
import time

import psutil

from report import ROOT, arguments, photos, table, write

CONFIG = ROOT / 'configs' / 'plrc_in1k.py'


def make_tree(root: str, photo: str, folders: int, per_folder: int) -> None:
    """Links to one photograph, in a past that lets the list of them be remembered."""
    for f in range(folders):
        folder = os.path.join(root, f'n{f:08d}')
        os.mkdir(folder)
        for i in range(per_folder):
            os.symlink(photo, os.path.join(folder, f'n{f:08d}_{i:05d}.JPEG'))
        os.utime(folder, (0, 0))
    os.utime(root, (0, 0))


def first_iteration(root: str, work: str) -> tuple:
    """Seconds by the clock and of CPU from the command to the log of iteration 1."""
    command = [sys.executable, str(ROOT / 'tools' / 'train.py'), str(CONFIG), '--work-dir', work,
               '--cfg-options', 'model.backbone.depth=18', 'train_dataloader.num_workers=1',
               f'train_dataloader.dataset.data_root={root}', 'train_dataloader.batch_size=8',
               'default_hooks.logger.interval=1']
    environment = dict(os.environ, XDG_CACHE_HOME=os.path.join(work, '..', 'cache'))
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if re.search(r'Epoch\(train\)\s+\[1\]\[\s*1/', line):
                spent = psutil.Process(process.pid).cpu_times()
                wall = time.perf_counter() - start
                process.terminate()
                return wall, spent.user + spent.system
    raise RuntimeError('no first iteration:\n' + ''.join(lines[-30:]))


MEMORY = """
import os, sys, psutil
from torch.utils.data import DataLoader
from plrc_plugin.datasets import ImageFolder, KeyedSampler
data = ImageFolder(sys.argv[1], pipeline=[lambda record: len(record['img_path'])])
sampler = KeyedSampler(data, seed=0)
loader = DataLoader(data, 1024, sampler=sampler, num_workers=1, persistent_workers=True,
                    multiprocessing_context='fork')
for epoch in range(int(sys.argv[2])):
    sampler.set_epoch(epoch)
    for _ in loader: pass
    worker, = [p for p in psutil.Process().children() if 'python' in p.name()]
    print(worker.memory_full_info().uss / 1e6, flush=True)
"""


def worker_memory(root: str, epochs: int) -> list:
    """Memory of a loader's worker that it shares with no one, in MB, after each epoch."""
    output = subprocess.run([sys.executable, '-c', MEMORY, root, str(epochs)], check=True,
                            text=True, capture_output=True).stdout
    return [float(line) for line in output.split()]


def main() -> None:
    parser = arguments(__doc__, rounds=2)
    parser.add_argument('--folders', type=int, default=1000)
    parser.add_argument('--per-folder', type=int, default=1280)
    parser.add_argument('--epochs', type=int, default=3)
    args = parser.parse_args()
    source = photos(args.photos)
    photo = next(os.path.join(folder, name) for folder, _, names in os.walk(source)
                 for name in names if name.endswith('.jpg'))
    with tempfile.TemporaryDirectory() as place:
        root = os.path.join(place, 'images')
        os.mkdir(root)
        make_tree(root, os.path.abspath(photo), args.folders, args.per_folder)
        rows = []
        for number in range(args.rounds):
            rows.append(['listed' if number == 0 else 'remembered', *first_iteration(
                root, os.path.join(place, f'run{number}'))])
        memory = worker_memory(root, args.epochs)
    count = args.folders * args.per_folder
    write('startup', f'Start-up over {count:,} file names',
          'From the command to the log of the first iteration of `configs/plrc_in1k.py` with '
          'ResNet-18, batch 8, imports and model included. Target: 30 s.',
          table(['file names', 'wall, s', 'CPU of the main process, s'], rows),
          'Memory of a loader\'s worker that is its own (USS) while it hands out every name once '
          'per epoch, images not read:\n\n' + table(
              ['after epoch', 'MB'], [[i + 1, m] for i, m in enumerate(memory)]))


if __name__ == '__main__':
    main()
