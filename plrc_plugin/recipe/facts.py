"""The facts that a recipe starts from: images, machine and start of a run."""

import copy
import os
import re
from pathlib import Path
from statistics import median
from typing import Any, Optional

import torch
from mmengine.device import get_device

from plrc_plugin.checkpoints.start import SCRATCH
from plrc_plugin.images.decoding import DecodingError
from plrc_plugin.images.survey import size_of
from plrc_plugin.recipe.rules import Facts, check_budget
from plrc_plugin.registry import DATASETS

_LOOKED_AT = 64  # images whose size is read


def gather(cfg: Any, processes: int = 1, processes_here: int = 1) -> Facts:
    """The facts of a run.

    Args:
        cfg: its config.
        processes: of the whole run.
        processes_here: on this machine.

    Raises:
        SettingsError: if the images cannot be found, or the budget is none.
    """
    budget = dict(cfg.get('budget') or {})
    check_budget(budget)
    dataset = DATASETS.build(_without_pipelines(cfg.train_dataloader.dataset))
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


def _without_pipelines(dataset: Any) -> Any:
    """A config of a data set that can be built while its pipeline has settings to resolve."""
    dataset = copy.deepcopy(dataset)
    parts = [dataset]
    while parts:
        part = parts.pop()
        if isinstance(part, (list, tuple)):
            parts += part
        elif isinstance(part, dict):
            if 'pipeline' in part:
                part['pipeline'] = []
            parts += [part.get('dataset'), part.get('datasets')]
    return dataset


def _median_side(dataset: Any) -> Optional[int]:
    """Median of the shorter sides of some images; None where files or sizes are not to be had."""
    if not hasattr(dataset, 'image_root'):
        return None
    sides = []
    for index in range(0, len(dataset), -(-len(dataset) // _LOOKED_AT)):
        path = os.path.join(dataset.image_root, dataset.get_data_info(index)['img_path'])
        try:
            sides.append(min(size_of(path)))
        except (DecodingError, OSError):
            continue
    return int(median(sides)) if sides else None


def _cores() -> int:
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory(processes_here: int) -> Optional[float]:
    """GB of free memory for each process: of the machine, or of the container."""
    found = []
    try:
        kb = re.search(r'MemAvailable:\s+(\d+) kB', Path('/proc/meminfo').read_text())
        found.append(int(kb[1]) / 1e6 if kb else None)
        group = Path('/sys/fs/cgroup')
        limit = (group / 'memory.max').read_text().strip()
        if limit.isdigit():
            used = int((group / 'memory.current').read_text())
            found.append((int(limit) - used) / 1e9)
    except (OSError, ValueError):  # another system, or an older kernel
        pass
    known = [amount for amount in found if amount is not None]
    return min(known) / processes_here if known else None


def _half() -> Optional[str]:
    """The dtype in which this device has units of its own for less than float32."""
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
