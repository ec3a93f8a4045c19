"""Samplers that hand out keys instead of bare indices."""
from typing import Iterator

from mmengine.dataset import DefaultSampler

from plrc_plugin.registry import DATA_SAMPLERS
from plrc_plugin.views.randomness import SampleKey


@DATA_SAMPLERS.register_module()
class KeyedSampler(DefaultSampler):
    """mmengine's ``DefaultSampler`` whose items carry the seed and the epoch.

    They reach the workers with the index, so that augmentation is a function of (seed, epoch,
    image) under persistent workers too, and no epoch repeats another's.
    """

    def __iter__(self) -> Iterator[SampleKey]:
        return (SampleKey(self.seed, self.epoch, index) for index in super().__iter__())
