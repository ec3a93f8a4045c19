"""Joins several data sets by weights."""

from collections.abc import Sequence
from typing import Any, Optional, Union

import numpy as np

from plrc_plugin.datasets.keys import KeyedDataset, current_key, plain_index, sample_of
from plrc_plugin.errors import SettingsError, check_positive, check_positive_integers
from plrc_plugin.randomness import SampleKey
from plrc_plugin.registry import DATASETS


@DATASETS.register_module()
class WeightedConcatDataset:
    """Joins data sets so that each has its share of an epoch.

    If a data set is larger than its share, the next epoch continues where this one stopped. If it
    is smaller, it begins again within the epoch, with other views. The image of a sample is a
    function of its key: workers, processes and restarts make no difference.

    Args:
        datasets (Sequence[dict | object]): each an ``ImageFolder``, or a wrapper of mmengine around
            it.
        weights (Sequence[float]): one for each, in any unit.
        length (int, optional): length of an epoch in samples. Defaults to the number of all images.

    Raises:
        SettingsError: if there are not as many weights as data sets, or a share is less than a
            sample.
    """

    TAKES_KEYS = True

    def __init__(
        self,
        datasets: Sequence[Union[dict, Any]],
        weights: Sequence[float],
        length: Optional[int] = None,
    ):
        if len(datasets) != len(weights) or not len(datasets):
            raise SettingsError(
                f'WeightedConcatDataset: {len(weights)} weights for {len(datasets)} datasets: give '
                'one for each'
            )
        for weight in weights:
            check_positive('WeightedConcatDataset', weights=weight)
        built = [DATASETS.build(d) if isinstance(d, dict) else d for d in datasets]
        self.datasets = [d.dataset if isinstance(d, KeyedDataset) else d for d in built]
        if length is None:
            length = sum(map(len, self.datasets))
        check_positive_integers('WeightedConcatDataset', length=length)
        ends = np.round(np.cumsum(weights) / np.sum(weights) * length).astype(np.int64)
        self.starts, self.counts = np.r_[0, ends[:-1]], np.diff(ends, prepend=0)
        if not self.counts.all():
            raise SettingsError(
                f'WeightedConcatDataset: weights={list(weights)} leave a data set without a sample '
                f'among {length}: raise its weight, or length'
            )

    def __len__(self) -> int:
        return int(self.starts[-1] + self.counts[-1])

    @property
    def metainfo(self) -> dict:
        return getattr(self.datasets[0], 'metainfo', {})

    def full_init(self) -> None:
        """Lists the images of all data sets."""
        for dataset in self.datasets:
            if hasattr(dataset, 'full_init'):
                dataset.full_init()

    def __getitem__(self, key: Union[SampleKey, int]) -> dict:
        """Returns the sample of a key, or of an index within another data set that hands on keys.

        Raises:
            SettingsError: for any other plain index.
        """
        place = key.index if isinstance(key, SampleKey) else range(len(self))[key]
        key = key if isinstance(key, SampleKey) else current_key()
        if key is None:
            raise plain_index(self, place)
        number = int(np.searchsorted(self.starts, place, 'right')) - 1
        dataset, count = self.datasets[number], int(self.counts[number])
        index = (place - int(self.starts[number]) + key.epoch * count) % len(dataset)
        with sample_of(key):
            return dataset[index]
