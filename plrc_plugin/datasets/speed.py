"""How fast a loader is here."""

import time
from typing import Any

from torch.utils.data import DataLoader

from plrc_plugin.datasets.collate import collate_views
from plrc_plugin.datasets.samplers import KeyedSampler


def images_per_second(dataset: Any, workers: int, batch_size: int = 8, seconds: float = 3) -> float:
    """Images whose two views a loader hands on in a second, counted after its first batch.

    Args:
        dataset: one that takes keys, with the pipeline of training.
        workers: processes; 0 for none beside this one.
        batch_size: images at a time; fewer where there are fewer.
        seconds: how long to count, at least two batches.
    """
    batch_size = min(batch_size, len(dataset))
    loader = DataLoader(
        dataset,
        batch_size,
        sampler=KeyedSampler(dataset, shuffle=True),
        collate_fn=collate_views,
        num_workers=workers,
        drop_last=True,
        persistent_workers=workers > 0,
    )
    counted, start = -1, 0.0
    while True:
        for _ in loader:
            counted += 1
            if not counted:
                start = time.perf_counter()
            elif counted >= 2 and time.perf_counter() - start > seconds:
                return counted * batch_size / (time.perf_counter() - start)
