"""Tries some steps of a run on a model that is thrown away, to see how long one takes and whether
it fits."""

import gc
import time
from typing import Any, NamedTuple

import torch
from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner

from plrc_plugin.datasets.keyed_loader import keyed_loader
from plrc_plugin.errors import SettingsError
from plrc_plugin.registry import MODELS

# Share of a GPU's memory that a step may take, because runs of several processes copy the
# gradients.
SHARE = 0.8
# A trial ends after so many steps, or after so many seconds if it has done the least number of
# steps.
MOST_STEPS, ENOUGH_SECONDS, LEAST_STEPS = 20, 8.0, 2


class Trial(NamedTuple):
    """The seconds of a step after its batch was loaded, and the largest share of the GPU's memory
    that it took; 0 without a GPU."""

    seconds: float
    share: float


def largest_batch(cfg: Any) -> int:
    """Halves the batch of ``cfg`` until a step takes at most :data:`SHARE` of the GPU's memory, and
    returns it. ``cfg`` then has the last batch that was tried.

    Raises:
        SettingsError: if not even two images fit.
    """
    batch = cfg.train_dataloader.batch_size
    while batch >= 2:
        cfg.train_dataloader.batch_size = batch
        try:
            if try_steps(cfg, most=2).share <= SHARE:
                return batch
        except torch.cuda.OutOfMemoryError:
            pass  # its tensors are freed with the frame of the error
        batch //= 2
    raise SettingsError(
        'not even two images fit the memory of this GPU: set a smaller view '
        '(train_dataloader.dataset.pipeline.0.size), or a smaller backbone'
    )


def try_steps(cfg: Any, most: int = MOST_STEPS) -> Trial:
    """Trains for some steps and measures all but the first.

    This mostly runs before the processes of a run have met, and then does not include what they
    exchange.

    Args:
        cfg: the config of the run, with every setting resolved.
        most: largest number of steps.
    """
    device = torch.device(get_device())
    on_gpu = device.type == 'cuda'
    gc.collect()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    model = MODELS.build(cfg.model).to(device).train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    loader = Runner.build_dataloader(keyed_loader(cfg.train_dataloader, 0), seed=0)
    if get_world_size() > 1:  # if they have met, none may stop before the others
        most = LEAST_STEPS
    steps, begun = -1, time.monotonic()
    while True:
        for data in loader:
            model.train_step(data, wrapper)
            if on_gpu:
                torch.cuda.synchronize()
            steps += 1
            if not steps:
                begun = time.monotonic()
            passed = time.monotonic() - begun
            if steps >= most or (steps >= LEAST_STEPS and passed > ENOUGH_SECONDS):
                share = 0.0
                if on_gpu:
                    total = torch.cuda.get_device_properties(device).total_memory
                    share = torch.cuda.max_memory_allocated() / total
                return Trial(passed / steps, share)
