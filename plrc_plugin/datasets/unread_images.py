"""The images of a config without its pipeline: where they are, and not what they show."""

from typing import Any

from plrc_plugin.datasets.keys import KeyedDataset, takes_keys
from plrc_plugin.datasets.pipelines import without_pipelines
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
        built: Any = DATASETS.build(without_pipelines(dataset))
        self.dataset = built if takes_keys(built) else KeyedDataset(built)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        """What :func:`~plrc_plugin.images.decoding.open_image` takes, of ``ImageFolder``."""
        return self.dataset[SampleKey(0, 0, index)]
