"""Samplers that hand out keys instead of bare indices."""

from collections.abc import Iterator
from itertools import islice

from mmengine.dataset import DefaultSampler

from plrc_plugin.randomness import SampleKey
from plrc_plugin.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class KeyedSampler(DefaultSampler):
    """mmengine's ``DefaultSampler`` whose items carry the seed and the epoch.

    They reach the workers with the index, so that augmentation is a function of (seed, epoch,
    image) under persistent workers too, and no epoch repeats another's.
    """

    _first = 0

    def pass_over(self, count: int) -> None:
        """Leaves out the first ``count`` items of this process when next iterated, and only then:
        a resumed run has seen them."""
        self._first = count

    def __iter__(self) -> Iterator[SampleKey]:
        first, self._first = self._first, 0
        indices = islice(super().__iter__(), first, None)
        return (SampleKey(self.seed, self.epoch, index) for index in indices)
