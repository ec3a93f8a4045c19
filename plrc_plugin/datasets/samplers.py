"""Samplers that hand out keys instead of bare indices."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Optional, Union

import numpy as np
from mmengine.dataset import (
    ClassBalancedDataset,
    ConcatDataset,
    DefaultSampler,
    InfiniteSampler,
    RepeatDataset,
)
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import ConcatDataset as TorchConcatDataset
from torch.utils.data import Sampler, Subset

from plrc_plugin.datasets.keys import takes_keys
from plrc_plugin.errors import SettingsError
from plrc_plugin.randomness import SampleKey
from plrc_plugin.registry import DATA_SAMPLERS

# Data sets that compute with an index, or look it up in a list.
_COMPUTE_WITH_INDICES = (
    ClassBalancedDataset,
    ConcatDataset,
    RepeatDataset,
    Subset,
    TorchConcatDataset,
)


@DATA_SAMPLERS.register_module()
class KeyedSampler(DefaultSampler):
    """mmengine's ``DefaultSampler`` whose items carry the seed and the epoch.

    Seed and epoch reach the workers with the index. So the augmentation is a function of (seed,
    epoch, image) with persistent workers too, and no epoch repeats that of another. Iterating the
    sampler again without ``set_epoch`` gives the next epoch.

    Raises:
        SettingsError: for a data set that computes with indices and would fail at a key.
    """

    _first = 0
    _begun = False

    def __init__(self, dataset, *args, **kwargs):
        check_takes_keys(dataset, type(self).__name__)
        super().__init__(dataset, *args, **kwargs)

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self._begun = False

    def pass_over(self, count: int) -> None:
        """Leaves out the first ``count`` items of this process in the next pass, and only there,
        because a resumed run has seen them."""
        self._first = count

    def __iter__(self) -> Iterator[SampleKey]:
        # A pass begins with its first item, because torch makes iterators of which it never takes
        # one.
        if self._begun:
            self.epoch += 1
        self._begun = True
        first, self._first = self._first, 0
        seed, epoch = self.seed, self.epoch
        for index in islice(super().__iter__(), first, None):
            yield SampleKey(seed, epoch, index)


@DATA_SAMPLERS.register_module()
class KeyedInfiniteSampler(InfiniteSampler):
    """mmengine's ``InfiniteSampler`` with keys, for runs counted in iterations. The epoch of an
    item is how often all images were handed out before, over all processes.

    Raises:
        SettingsError: for a data set that computes with indices and would fail at a key.
    """

    def __init__(self, dataset, *args, **kwargs):
        check_takes_keys(dataset, type(self).__name__)
        super().__init__(dataset, *args, **kwargs)

    def _indices_of_rank(self) -> Iterator[SampleKey]:
        def keys() -> Iterator[SampleKey]:
            for place, index in enumerate(self._infinite_indices()):
                yield SampleKey(self.seed, place // self.size, index)

        yield from islice(keys(), self.rank, None, self.world_size)


class _Keys:
    """Turns the indices of another sampler into keys.

    Within an epoch the keys of an image differ by ``visit``. With several processes each visit
    belongs to one of them, because nothing tells whether they share images.
    """

    def __init__(self, seed: int, epoch: int):
        self.seed, self.epoch = seed, epoch
        self.rank, self.world_size = get_dist_info()
        self.visits = np.zeros(1024, np.int32)

    def __call__(self, item: Union[int, SampleKey]) -> SampleKey:
        if isinstance(item, SampleKey):
            return item
        index = int(item)
        if index >= len(self.visits):
            self.visits = np.pad(self.visits, (0, index + 1))
        visit = int(self.visits[index]) * self.world_size + self.rank
        self.visits[index] += 1
        return SampleKey(self.seed, self.epoch, index, visit)


@DATA_SAMPLERS.register_module()
class KeyedIndices(Sampler):
    """Gives keys in place of the indices of any sampler.

    ``PretrainRunner`` puts it around every sampler that is not keyed itself. The epoch is that of
    ``set_epoch``; each pass without ``set_epoch`` adds one.

    Args:
        sampler (dict | Sampler): the sampler, or its config.
        dataset (Sized, optional): what a config of a sampler draws from.
        seed (int, optional): seed of the keys. Defaults to that of the sampler.
    """

    _first = 0
    _begun = False

    def __init__(
        self, sampler: Union[dict, Sampler], dataset: Any = None, seed: Optional[int] = None
    ):
        check_takes_keys(dataset, type(self).__name__)
        if isinstance(sampler, dict):
            sampler = DATA_SAMPLERS.build(sampler, default_args=dict(dataset=dataset, seed=seed))
        self.sampler = sampler
        self.dataset = dataset
        self.epoch = 0
        self._seed = seed

    @property
    def seed(self) -> int:
        """The seed that was given, or that of the sampler, or one that all processes agree upon."""
        seed = getattr(self.sampler, 'seed', None)
        if seed is not None:
            return seed
        if self._seed is None:
            self._seed = sync_random_seed()
        return self._seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._seed = seed
        if hasattr(self.sampler, 'seed'):
            self.sampler.seed = seed

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch here and in the sampler."""
        self.epoch, self._begun = epoch, False
        _tell(self.sampler, epoch)

    def pass_over(self, count: int) -> None:
        """Leaves out the first ``count`` items in the next pass, and only there."""
        self._first = count

    def __iter__(self) -> Iterator[SampleKey]:
        if self._begun:
            self.set_epoch(self.epoch + 1)
        self._begun = True
        first, self._first = self._first, 0
        key = _Keys(self.seed, self.epoch)
        yield from islice(map(key, self.sampler), first, None)

    def __len__(self) -> int:
        return len(self.sampler)


@DATA_SAMPLERS.register_module()
class KeyedBatches(Sampler):
    """:class:`KeyedIndices` for a batch sampler, which needs the indices itself.

    Args:
        batch_sampler (dict | Sampler): the batch sampler, which gives lists of indices, or its
            config.
        sampler (Sampler): what the batch sampler draws from.
        batch_size (int): batch size of the loader.
        seed (int, optional): seed of the keys. Defaults to that of the sampler.
    """

    _begun = False

    def __init__(
        self,
        batch_sampler: Union[dict, Sampler],
        sampler: Sampler,
        batch_size: int,
        seed: Optional[int] = None,
    ):
        if isinstance(batch_sampler, dict):
            batch_sampler = DATA_SAMPLERS.build(
                batch_sampler, default_args=dict(sampler=sampler, batch_size=batch_size)
            )
        self.batch_sampler = batch_sampler
        self.batch_size = batch_size
        self.indices = sampler
        self.seed = getattr(sampler, 'seed', None) if seed is None else seed
        if self.seed is None:
            self.seed = sync_random_seed()
        self.epoch = 0

    @property
    def sampler(self) -> 'KeyedBatches':
        """The object in which mmengine's ``DistSamplerSeedHook`` looks for ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch here and in both samplers."""
        self.epoch, self._begun = epoch, False
        for sampler in (self.batch_sampler, self.indices):
            _tell(sampler, epoch)

    def __iter__(self) -> Iterator[Sequence[SampleKey]]:
        if self._begun:
            self.set_epoch(self.epoch + 1)
        self._begun = True
        key = _Keys(self.seed, self.epoch)
        for batch in self.batch_sampler:
            yield [key(index) for index in batch]

    def __len__(self) -> int:
        return len(self.batch_sampler)


@DATA_SAMPLERS.register_module(name='DefaultSampler')
def default_sampler(dataset, **kwargs) -> DefaultSampler:
    """In this scope, ``DefaultSampler`` is keyed for data sets that take keys, and else
    mmengine's."""
    return (KeyedSampler if takes_keys(dataset) else DefaultSampler)(dataset, **kwargs)


@DATA_SAMPLERS.register_module(name='InfiniteSampler')
def infinite_sampler(dataset, **kwargs) -> InfiniteSampler:
    """In this scope, ``InfiniteSampler`` is keyed for data sets that take keys, and else
    mmengine's."""
    return (KeyedInfiniteSampler if takes_keys(dataset) else InfiniteSampler)(dataset, **kwargs)


def check_takes_keys(dataset: Any, sampler: str) -> None:
    """Raises SettingsError for data sets that are known to compute with indices."""
    if isinstance(dataset, _COMPUTE_WITH_INDICES):
        raise SettingsError(
            f'{sampler}: {type(dataset).__name__} computes with indices and takes no keys: use '
            "runner_type='plrc_plugin.PretrainRunner', or put "
            "dict(type='plrc_plugin.KeyedDataset', dataset=...) around it"
        )


def _tell(sampler: Any, epoch: int) -> None:
    if hasattr(sampler, 'set_epoch'):
        sampler.set_epoch(epoch)
