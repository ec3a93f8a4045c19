"""Brings the key of a sample to the images through data sets that compute with plain indices."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Optional, Union

from plrc_plugin.errors import SettingsError
from plrc_plugin.randomness import SampleKey
from plrc_plugin.registry import DATASETS

_current: ContextVar[Optional[SampleKey]] = ContextVar('sample key', default=None)


def current_key() -> Optional[SampleKey]:
    """Returns the key of the sample that a :class:`KeyedDataset` is making, or None outside of
    one."""
    return _current.get()


@contextmanager
def sample_of(key: SampleKey) -> Iterator[None]:
    """A context in which everything that is read belongs to the sample of this key."""
    token = _current.set(key)
    try:
        yield
    finally:
        _current.reset(token)


def takes_keys(dataset: Any) -> bool:
    """Whether ``dataset[SampleKey(...)]`` works."""
    return getattr(type(dataset), 'TAKES_KEYS', False)


@DATASETS.register_module()
class KeyedDataset:
    """Makes any data set around :class:`ImageFolder` take keys.

    mmengine's ``ConcatDataset``, ``RepeatDataset`` and ``ClassBalancedDataset``, torch's ``Subset``
    and the wrappers of mmdet and mmseg compute with indices and look them up in lists. They get
    ``key.index``, and the images below find the key itself by :func:`current_key`. The index in the
    key is that of the outermost data set. So the images of joined folders share no random numbers,
    and a repeated image has other views each time.

    ``PretrainRunner`` adds this wrapper by itself. All other attributes are those of the wrapped
    data set.

    Args:
        dataset (dict | object): the data set, or its config.

    Raises:
        SettingsError: for a plain index, which tells neither seed nor epoch.
    """

    TAKES_KEYS = True

    def __init__(self, dataset: Union[dict, Any]):
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey) -> dict:
        if not isinstance(key, SampleKey):
            raise plain_index(self, key)
        with sample_of(key):
            return self.dataset[key.index]

    def __getattr__(self, name: str) -> Any:
        if name == 'dataset' or name.startswith('__'):  # when unpickled there is none yet
            raise AttributeError(name)
        return getattr(self.dataset, name)


def plain_index(dataset: Any, index: Any) -> SettingsError:
    """Returns the error for an index that came without a key."""
    name = type(dataset).__name__
    return SettingsError(
        f'{name}: index {index!r} came without seed and epoch, and every epoch would show the same '
        "views: use runner_type='plrc_plugin.PretrainRunner', or sampler=dict(type="
        "'plrc_plugin.KeyedSampler', shuffle=True) in train_dataloader; in Python "
        'DataLoader(dataset, sampler=KeyedSampler(dataset)), with KeyedDataset around other data '
        'sets and KeyedIndices around other samplers, all of plrc_plugin.datasets; to look at one '
        f'sample, ImageFolder.look({index!r})'
    )
