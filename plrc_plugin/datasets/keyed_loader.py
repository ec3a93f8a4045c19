"""Makes every sampler and every data set in a loader's config hand on keys."""

import inspect
from typing import Any, Optional

from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.registry import Registry

from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.datasets.keys import KeyedDataset, takes_keys
from plrc_plugin.datasets.samplers import (
    KeyedIndices,
    KeyedInfiniteSampler,
    KeyedSampler,
    default_sampler,
    infinite_sampler,
)
from plrc_plugin.registry import DATA_SAMPLERS, DATASETS

# The keyed forms of mmengine's samplers, by their class and by this scope's functions of the same
# name.
_KEYED = {
    DefaultSampler: KeyedSampler,
    default_sampler: KeyedSampler,
    InfiniteSampler: KeyedInfiniteSampler,
    infinite_sampler: KeyedInfiniteSampler,
}
_PLAIN = {default_sampler: DefaultSampler, infinite_sampler: InfiniteSampler}


def keyed_loader(loader: Any, seed: Optional[int] = None) -> Any:
    """Returns the config of a ``DataLoader`` over :class:`ImageFolder` with keys instead of
    indices.

    A data set around ``ImageFolder`` is wrapped by :class:`KeyedDataset`. ``DefaultSampler`` and
    ``InfiniteSampler`` become their keyed forms; another sampler or batch sampler is wrapped by
    :class:`KeyedIndices` or :class:`KeyedBatches`. A loader of other data sets stays as it is, and
    so does one with ``KeyedSampler`` and ``ImageFolder``.

    Args:
        loader (dict | DataLoader): a config such as ``train_dataloader``. A loader that was built
            already stays as it is.
        seed (int, optional): the seed for samplers that have none.
    """
    if not isinstance(loader, dict) or not _holds_images(loader.get('dataset')):
        return loader
    loader = dict(loader)
    if not _is_keyed(loader['dataset']):
        loader['dataset'] = dict(type=KeyedDataset, dataset=loader['dataset'])
    sampler = loader.get('sampler')
    kind = _kind(sampler, DATA_SAMPLERS)
    if loader.get('batch_sampler') is not None:
        if kind in _PLAIN:  # a batch sampler looks images up by index
            loader['sampler'] = {**sampler, 'type': _PLAIN[kind]}
        loader['batch_sampler'] = dict(
            type='plrc_plugin.KeyedBatches', batch_sampler=loader['batch_sampler'], seed=seed
        )
    elif kind in _KEYED:
        loader['sampler'] = {**sampler, 'type': _KEYED[kind]}
    elif isinstance(sampler, dict) and kind not in (KeyedSampler, KeyedInfiniteSampler):
        loader['sampler'] = dict(type=KeyedIndices, sampler=sampler)
    return loader


def _kind(config: Any, registry: Registry) -> Any:
    """Returns the class or function that a config names, or None if it names none."""
    kind = config.get('type') if isinstance(config, dict) else None
    if not isinstance(kind, str):
        return kind
    return registry.get(kind)


def _is_keyed(dataset: Any) -> bool:
    if not isinstance(dataset, dict):
        return takes_keys(dataset)
    return getattr(_kind(dataset, DATASETS), 'TAKES_KEYS', False)


def _holds_images(dataset: Any) -> bool:
    """Whether a data set, built or as config, is an ``ImageFolder`` or contains one."""
    if isinstance(dataset, (list, tuple)):
        return any(map(_holds_images, dataset))
    if isinstance(dataset, dict):
        kind = _kind(dataset, DATASETS)
        if inspect.isclass(kind) and issubclass(kind, ImageFolder):
            return True
        return any(_holds_images(dataset.get(name)) for name in ('dataset', 'datasets'))
    if isinstance(dataset, ImageFolder):
        return True
    inner = [getattr(dataset, name, None) for name in ('dataset', '_dataset', 'datasets')]
    return any(_holds_images(x) for x in inner if x is not None and x is not dataset)
