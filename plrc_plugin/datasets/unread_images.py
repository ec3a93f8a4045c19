"""Lists the images of a config without reading them."""

from typing import Any

from plrc_plugin.datasets.keys import KeyedDataset, takes_keys
from plrc_plugin.datasets.pipelines import without_pipelines
from plrc_plugin.randomness import SampleKey
from plrc_plugin.registry import DATASETS


class UnreadImages:
    """The records of an ``ImageFolder``, or of data sets around it.

    Args:
        dataset (dict): its config. Its pipelines are not used, and may have settings still to be
            resolved.

    Raises:
        SettingsError: if the images cannot be found.
    """

    def __init__(self, dataset: dict):
        built: Any = DATASETS.build(without_pipelines(dataset))
        self.dataset = built if takes_keys(built) else KeyedDataset(built)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        """Returns a record of ``ImageFolder``, which
        :func:`~plrc_plugin.images.decoding.open_image` takes."""
        return self.dataset[SampleKey(0, 0, index)]
