"""The images of a config without its pipeline: where they are, and not what they show."""

import copy
from typing import Any

from plrc_plugin.datasets.keys import KeyedDataset, takes_keys
from plrc_plugin.randomness import SampleKey
from plrc_plugin.registry import DATASETS


class UnreadImages:
    """The records of an ``ImageFolder``, or of data sets around it.

    Args:
        dataset (dict): config. Its pipelines play no part, and may have settings to resolve.

    Raises:
        SettingsError: if the images cannot be found.
    """

    def __init__(self, dataset: dict):
        built: Any = DATASETS.build(_without_pipelines(dataset))
        self.dataset = built if takes_keys(built) else KeyedDataset(built)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        """What :func:`~plrc_plugin.images.decoding.open_image` takes, of ``ImageFolder``."""
        return self.dataset[SampleKey(0, 0, index)]


def _without_pipelines(dataset: Any) -> Any:
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
