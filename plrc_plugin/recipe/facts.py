"""Gathers the facts that a recipe starts from: the images, the machine and the first weights."""

import os
import re
from pathlib import Path
from statistics import median
from typing import Any, Optional

import torch
from mmengine.device import get_device

from plrc_plugin.checkpoints.start import SCRATCH
from plrc_plugin.datasets.unread_images import UnreadImages
from plrc_plugin.images.decoding import DecodingError
from plrc_plugin.images.survey import size_of
from plrc_plugin.recipe.rules import Facts, check_budget

_LOOKED_AT = 64  # number of images whose size is read


def gather(cfg: Any, processes: int = 1, processes_here: int = 1) -> Facts:
    """Gathers the facts of a run.

    Args:
        cfg: the config of the run.
        processes: number of processes of the whole run.
        processes_here: number of those on this machine.

    Raises:
        SettingsError: if the images cannot be found, or the budget is not valid.
    """
    budget = dict(cfg.get('budget') or {})
    check_budget(budget)
    dataset = UnreadImages(cfg.train_dataloader.dataset)
    loads = cfg.get('load_from') is not None and not cfg.get('resume')
    return Facts(
        images=len(dataset),
        side=_median_side(dataset),
        processes=processes,
        gpu=get_device() != 'cpu',
        cores=max(1, _cores() // processes_here),
        memory=_memory(processes_here),
        half=_half(),
        weights=cfg.get('pretrained') not in (None, SCRATCH) or loads,
        budget=budget,
    )


def _median_side(dataset: UnreadImages) -> Optional[int]:
    """Returns the median of the shorter sides of some images, or None if files or sizes cannot be
    read."""
    every = max(1, -(-len(dataset) // _LOOKED_AT))
    sides = [_side(dataset[index]) for index in range(0, len(dataset), every)]
    known = [side for side in sides if side is not None]
    return int(median(known)) if known else None


def _side(record: Any) -> Optional[int]:
    try:
        return min(size_of(record))
    except (DecodingError, OSError, KeyError, TypeError, AttributeError):
        return None  # they cannot be read, or the data set is no ImageFolder


def _cores() -> int:
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory(processes_here: int) -> Optional[float]:
    """Returns the free memory of the machine, or of the container, in GB for each process."""
    found = []
    try:
        kb = re.search(r'MemAvailable:\s+(\d+) kB', Path('/proc/meminfo').read_text())
        found.append(int(kb[1]) / 1e6 if kb else None)
        group = Path('/sys/fs/cgroup')
        limit = (group / 'memory.max').read_text().strip()
        if limit.isdigit():
            used = int((group / 'memory.current').read_text())
            found.append((int(limit) - used) / 1e9)
    except (OSError, ValueError):  # another operating system, or an older kernel
        pass
    known = [amount for amount in found if amount is not None]
    return min(known) / processes_here if known else None


def _half() -> Optional[str]:
    """Returns the dtype below float32 for which this device has special units, or None."""
    if torch.cuda.is_available():
        major = torch.cuda.get_device_capability()[0]
        return 'bfloat16' if major >= 8 else 'float16' if major >= 7 else None
    if get_device() != 'cpu':
        return None
    try:
        flags = Path('/proc/cpuinfo').read_text()
    except OSError:
        return None
    return 'bfloat16' if re.search(r'\b(avx512_bf16|amx_bf16)\b', flags) else None
