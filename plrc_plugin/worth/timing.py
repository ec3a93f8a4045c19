"""Times each kind of part for a short while, so that a plan can be made."""

import copy
import gc
import logging
import subprocess
import sys
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS, DefaultScope
from mmengine.runner import Runner
from torch import nn

from plrc_plugin.datasets.unread_images import UnreadImages
from plrc_plugin.evaluation.cells import ProbeCells
from plrc_plugin.recipe import resolve, rules, trial
from plrc_plugin.worth.frozen import frozen_quality

ENOUGH = 6.0  # seconds of one timing
CELLS_FITTED = 50_000  # most iterations of the linear probe


def startup_seconds(module: str) -> float:
    """Returns the start of a run in seconds: twice the time of a process that imports what a run
    needs."""
    begun = time.monotonic()
    subprocess.run([sys.executable, '-c', f'import plrc_plugin.engine, {module}'], check=True)
    return 1.5 * (time.monotonic() - begun)


def epoch_seconds(cfg: Config, processes: int) -> tuple[float, int]:
    """Returns the seconds of an epoch of pre-training, and the number of epochs in the recipe.

    Raises:
        SettingsError: if the photographs or the settings cannot be used.
    """
    cfg = copy.deepcopy(cfg)
    resolve(cfg, processes, processes, say=None)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        step = trial.try_steps(cfg).seconds
    images = len(UnreadImages(cfg.train_dataloader.dataset))
    steps = rules.iterations_per_epoch(images, processes, cfg.train_dataloader.batch_size)
    return max(1, steps) * step, cfg.train_cfg.max_epochs


def probe_seconds(model: nn.Module, cells: ProbeCells, parts: dict[float, list[int]]) -> float:
    """Returns the seconds of the probes of one trunk, estimated from some images."""
    some = copy.copy(cells)
    fit, score = (min(len(part), 12) for part in cells.parts)
    some.parts = [_First(part, count) for part, count in zip(cells.parts, (fit, score))]
    begun = time.monotonic()
    frozen_quality(model, some, {})
    features = (time.monotonic() - begun) / (fit + score) * len(cells)
    begun = time.monotonic()
    frozen_quality(model, some, {100: range(fit)})
    fitting = max(0.0, time.monotonic() - begun - features * (fit + score) / len(cells))
    per_image = cells.cells**2
    growth = sum(min(CELLS_FITTED, len(p) * per_image) for p in parts.values()) / (fit * per_image)
    return features + fitting * max(1.0, growth)


class _First:
    """Takes the first images of a data set."""

    def __init__(self, data: Any, count: int) -> None:
        self.data, self.count, self.classes = data, count, data.classes

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.data[index]


def finetuning_seconds(cfg: Config, folder: Path) -> tuple[float, float]:
    """Returns the seconds of an iteration of fine-tuning and of one evaluation, measured on some
    batches."""
    cfg = copy.deepcopy(cfg)
    cfg.work_dir = str(folder)
    cfg.experiment_name = 'worth_timing'
    cfg.custom_hooks = []
    cfg.log_level = 'ERROR'
    with redirect_stdout(StringIO()):  # silences pycocotools
        return _timed_finetuning(cfg)


def _timed_finetuning(cfg: Config) -> tuple[float, float]:
    runner = (RUNNERS.get(cfg.get('runner_type', 'Runner')) or Runner).from_cfg(cfg)
    try:
        model = runner.model.train()
        wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
        step = _each(loader, lambda batch: model.train_step(batch, wrapper))
        model.eval()
        tests = Runner.build_dataloader(cfg.val_dataloader, seed=0)
        with torch.no_grad():
            evaluation = _each(tests, model.val_step) * len(tests)
        return step, evaluation
    finally:
        for handler in list(runner.logger.handlers):
            if isinstance(handler, logging.FileHandler):
                handler.close()
        del runner
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _each(loader: Any, do: Any) -> float:
    """Returns the seconds of one batch, without the first."""
    begun, count = time.monotonic(), -1
    while True:
        for batch in loader:
            do(batch)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            count += 1
            if count == 0:
                begun = time.monotonic()
            passed = time.monotonic() - begun
            if count >= 20 or (count >= 2 and passed > ENOUGH):
                return passed / count
