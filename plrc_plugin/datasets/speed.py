"""Measures how fast a loader is on this machine."""

import time
from typing import Any

from torch.utils.data import DataLoader

from plrc_plugin.datasets.collate import collate_views
from plrc_plugin.datasets.samplers import KeyedSampler


def images_per_second(dataset: Any, workers: int, batch_size: int = 8, seconds: float = 3) -> float:
    """Returns how many images per second a loader makes two views of, measured after its first
    batch.

    Args:
        dataset: a data set that takes keys, with the pipeline of training.
        workers: number of worker processes; with 0 this process loads.
        batch_size: images in a batch; fewer if the data set has fewer.
        seconds: how long to measure, but at least two batches.
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
