"""Some of the images that a run trains on, as whole images and without augmentation."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plrc_plugin.datasets.keys import KeyedDataset, takes_keys
from plrc_plugin.datasets.pipelines import with_pipeline
from plrc_plugin.errors import SettingsError, check_positive_integers
from plrc_plugin.randomness import SampleKey
from plrc_plugin.registry import DATASETS

# Images in a group. It is a constant, so that groups do not depend on the batches of the caller's
# loaders.
_GROUP = 32
# Settings of a pipeline step that say how to read an image.
READ_BY = ('window', 'channels', 'max_pixels')


class CleanPhotographs:
    """``count`` images of a data set, evenly spread over it, as squares.

    Args:
        dataset (dict): config of an ``ImageFolder``, or of data sets around it, such as
            ``train_dataloader.dataset``. Of its pipeline, only ``window``, ``channels`` and
            ``max_pixels`` of ``TwoViews`` are used.
        count (int): number of images, 2 or more.
        size (int): side in pixels. Defaults to 224.

    Attributes:
        replaced (int): number of images so far that could not be decoded; others took their places.

    Raises:
        SettingsError: if there are fewer images, or a setting cannot work.
    """

    def __init__(self, dataset: dict, count: int, size: int = 224):
        check_positive_integers('batch-norm statistics', photographs=count, size=size)
        if count < 2:
            raise SettingsError('batch-norm statistics need 2 photographs or more, got 1')
        dataset = DATASETS.build(with_whole_images(dataset, size))
        self.dataset = dataset if takes_keys(dataset) else KeyedDataset(dataset)
        if count > len(self.dataset):
            raise SettingsError(
                f'batch-norm statistics of {count} photographs: there are {len(self.dataset)}; '
                'ask for fewer, or give another folder'
            )
        self.count, self.size, self.replaced = count, size, 0

    def __getitem__(self, index: int) -> np.ndarray:
        """Returns the pixels of one image, (size, size, 3) uint8 RGB or (size, size, C) float32."""
        place = index * len(self.dataset) // self.count
        sample = self.dataset[SampleKey(0, 0, place)]
        self.replaced += len(sample.get('skipped', ()))
        return sample['pixels']

    def groups(self) -> Iterator[Tensor]:
        """Yields all images in groups (B, size, size, C) of nearly equal numbers."""
        for part in torch.arange(self.count).tensor_split(-(-self.count // _GROUP)):
            yield torch.stack([torch.from_numpy(self[int(index)]) for index in part])


def with_whole_images(config: Any, size: int) -> Any:
    """Returns a copy of a config in which every data set gives whole images, read as its pipeline
    reads them."""

    def whole(pipeline: list) -> list:
        read = next((step for step in pipeline if step.get('window') is not None), {})
        kept = {name: read[name] for name in READ_BY if read.get(name) is not None}
        return [dict(type='plrc_plugin.WholeImage', size=size, **kept)]

    return with_pipeline(config, whole)
