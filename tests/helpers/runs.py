"""Tiny runs in processes of their own, which may be killed."""

import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import zlib
from pathlib import Path

import mmengine.device.utils
import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import OPTIMIZERS, RUNNERS
from PIL import Image
from torch import nn

import plrc_plugin  # noqa: F401
from plrc_plugin.models.backbones import ResNet
from plrc_plugin.registry import HOOKS, MODELS

ROOT = Path(__file__).resolve().parents[2]
# Processes start at once when they are forked from one that has imported everything and computed
# nothing. That one finds this module by PYTHONPATH alone. With a GPU they start anew: importing
# mmengine asks CUDA for its devices, and no process that is forked after that can use them.
os.environ['PYTHONPATH'] = os.pathsep.join(
    [os.path.dirname(__file__), str(ROOT), os.environ.get('PYTHONPATH', '')]
)
SERVER = multiprocessing.get_context('spawn' if torch.cuda.is_available() else 'forkserver')
if not torch.cuda.is_available():
    SERVER.set_forkserver_preload(['runs'])

TINY = {
    'model.backbone.depth': 18,
    'model.backbone.base_channels': 4,
    'model.backbone.strides': (1, 2, 2, 1),
    'model.queue_size': 40,
    'model.warmup_epochs': 1,
    'train_dataloader.dataset.pipeline.0.size': 48,
    'train_dataloader.dataset.pipeline.1.num_regions': 4,
    'train_dataloader.dataset.pipeline.1.points_per_region': 2,
    'train_dataloader.dataset.pipeline.1.resolution': 12,
    'train_dataloader.batch_size': 4,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'train_dataloader.pin_memory': False,
    'default_hooks.logger.interval': 1,
    'log_processor.window_size': 5,
    'train_cfg.max_epochs': 2,
}


@MODELS.register_module(force=True)
class NoisyResNet(ResNet):
    """Draws from the global generators, as dropout and stochastic depth do."""

    def forward(self, images):
        return (nn.functional.dropout(super().forward(images)[0], 0.1, self.training),)


@HOOKS.register_module(force=True)
class RecordHook(Hook):
    """Appends what each iteration computed to ``losses.txt``, exactly, and the images it read."""

    priority = 'BELOW_NORMAL'  # before the checkpoint, which may be the end

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        terms = ' '.join(f'{k}={v.hex()}' for k, v in sorted(outputs.items()))
        names = ','.join(os.path.basename(p).replace(' ', '_') for p in data_batch['paths'])
        views = zlib.crc32(data_batch['query']['pixels'].numpy().tobytes())
        with open(
            os.path.join(runner.work_dir, f'losses_{os.environ.get("RANK", 0)}.txt'),
            'a',
            errors='surrogateescape',
        ) as file:
            file.write(f'{runner.iter} {runner.epoch} {batch_idx} {names} {views} {terms}\n')

    def after_run(self, runner):
        model = getattr(runner.model, 'module', runner.model)
        torch.save(
            dict(
                model=model.state_dict(),
                optimizer=runner.optim_wrapper.state_dict(),
                schedulers=[s.state_dict() for s in runner.param_schedulers],
            ),
            os.path.join(runner.work_dir, f'final_{runner.rank}.pt'),
        )


@HOOKS.register_module(force=True)
class FixedStatisticsHook(Hook):
    """Batch normalisation by running statistics: then no image's features depend on its batch."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        for module in runner.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


@HOOKS.register_module(force=True)
class NoCommonRegionHook(Hook):
    """Makes the views of this rank's images (of every rank's, without one) disjoint."""

    def __init__(self, rank=None):
        self.rank = rank

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.rank in (None, runner.rank):
            data_batch['query'].regions.add_(1000)


def limit_files(size: int) -> None:
    """No file may grow beyond ``size`` bytes: a disk that is full, for this process."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@HOOKS.register_module(force=True)
class FullDiskHook(Hook):
    """From an iteration on nothing can be written."""

    def __init__(self, iteration):
        self.iteration = iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            limit_files(1)


@OPTIMIZERS.register_module(force=True)
class DataSGD(torch.optim.Optimizer):
    """Plain SGD that writes to ``parameter.data``, which raises no version counter."""

    def __init__(self, params, lr):
        super().__init__(params, dict(lr=lr))

    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group['params']:
                if parameter.grad is not None:
                    parameter.data.add_(parameter.grad, alpha=-group['lr'])


@HOOKS.register_module(force=True)
class DieOnceHook(Hook):
    """Kills process ``rank`` at an iteration, in the first run only."""

    def __init__(self, rank, iteration):
        self.rank, self.iteration = rank, iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        marker = os.path.join(runner.work_dir, 'died')
        if (runner.rank, runner.iter) == (self.rank, self.iteration) and not os.path.exists(marker):
            open(marker, 'w').close()
            os.kill(os.getpid(), signal.SIGKILL)


def make_images(folder: Path, count: int = 22, side: int = 60) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        small = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(small).resize((side, side)).save(folder / f'{i:02}.png')
    return folder


def tiny_config(images: Path, work_dir: Path, config: str = 'plrc_in1k.py', **options) -> Config:
    cfg = Config.fromfile(ROOT / 'configs' / config)
    cfg.merge_from_dict({**TINY, 'train_dataloader.dataset.data_root': str(images), **options})
    cfg.work_dir = str(work_dir)
    # Runs of one process that start in the same second would else share a logger, and its file.
    cfg.experiment_name = str(work_dir).strip('/').replace('/', '_')
    cfg.visualizer = dict(type='Visualizer')
    cfg.env_cfg.cudnn_benchmark = False
    cfg.custom_hooks.append(dict(type='RecordHook'))
    return cfg


def train(cfg: Config):
    """Trains in this process."""
    torch.set_num_threads(1)
    runner = RUNNERS.build(cfg)
    runner.train()
    return runner


def _train_in_child(cfg_text: str, before, error_file: str, environ: dict) -> None:
    os.environ.update(environ)
    if environ.get('CUDA_VISIBLE_DEVICES') == '':
        mmengine.device.utils.DEVICE = 'cpu'  # it was read before the GPUs were hidden
    logging.raiseExceptions = False
    sys.stdout = sys.stderr = open(os.devnull, 'w')  # noqa: SIM115 (open as long as the process)
    try:
        if before is not None:
            before()
        train(Config.fromstring(cfg_text, file_format='.py'))
    except BaseException as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        Path(error_file).write_text(f'{type(error).__name__}: {error}')
        os._exit(1)
    os._exit(0)


def start(cfg: Config, before=None, **environ) -> multiprocessing.Process:
    """Trains in a child; ``before``, a picklable function, is called there first."""
    error_file = os.path.join(cfg.work_dir, f'error_{environ.get("RANK", 0)}.txt')
    os.makedirs(cfg.work_dir, exist_ok=True)
    child = SERVER.Process(
        target=_train_in_child, args=(cfg.pretty_text, before, error_file, environ)
    )
    child.error_file = error_file
    child.start()
    return child


def run_processes(cfg: Config, size: int, **environ) -> list:
    """Trains in ``size`` processes of one group, with further environment; what each raised."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    cfg.launcher = 'pytorch'
    children = [
        start(
            cfg,
            RANK=str(r),
            LOCAL_RANK=str(r),
            WORLD_SIZE=str(size),
            MASTER_ADDR='127.0.0.1',
            MASTER_PORT=str(port),
            **environ,
        )
        for r in range(size)
    ]
    return [finish(child) for child in children]


def finish(child: multiprocessing.Process, timeout: float = 300) -> str:
    """Waits for a child; returns what it raised, '' if nothing, 'killed' if so."""
    child.join(timeout)
    if child.is_alive():
        child.kill()
        raise AssertionError('the run did not end')
    if child.exitcode == -signal.SIGKILL:
        return 'killed'
    return '' if child.exitcode == 0 else Path(child.error_file).read_text()


def records(work_dir: Path, rank: int = 0) -> dict:
    """Iteration to the set of records that runs have left of it."""
    found = {}
    for line in (
        (Path(work_dir) / f'losses_{rank}.txt').read_text(errors='surrogateescape').splitlines()
    ):
        found.setdefault(int(line.split()[0]), []).append(line)
    return found


def assert_same_tensors(a, b, where: str = '') -> None:
    """Bit for bit."""
    if isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            assert_same_tensors(a[key], b[key], f'{where}.{key}')
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b)):
            assert_same_tensors(x, y, f'{where}[{i}]')
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def assert_same_run(resumed: Path, whole: Path) -> None:
    """Every iteration, however often it was run, and the final state, bit for bit."""
    reference, seen = records(whole), records(resumed)
    assert set(seen) == set(reference)
    for iteration, lines in seen.items():
        assert set(lines) == set(reference[iteration]), iteration
    assert_same_tensors(final(resumed), final(whole))


def final(work_dir: Path, rank: int = 0) -> dict:
    return torch.load(Path(work_dir) / f'final_{rank}.pt', weights_only=True)


def terms(line: str) -> dict:
    """Names and values of a record."""
    return {
        name: float.fromhex(value) for name, value in (item.split('=') for item in line.split()[5:])
    }
