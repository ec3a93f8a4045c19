"""From a batch of uint8 views to normalised images on the device."""

from collections.abc import Sequence
from typing import Optional

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from plrc_plugin.registry import MODELS
from plrc_plugin.views.device_augmentation import DeviceAugmentation, augment


@MODELS.register_module()
class ViewsPreprocessor(BaseDataPreprocessor):
    """Moves a batch of :func:`~plrc_plugin.datasets.collate_views` and adds ``image`` to its views.

    Pixels travel as uint8, a quarter of the bytes, and are normalised where they arrive; before,
    with ``TwoViews(where='device')``, they are augmented.

    Args:
        mean (Sequence[float]): of R, G, B in [0, 255]. Defaults to ImageNet's.
        std (Sequence[float]): likewise.
        channels_last (bool): memory format of the images. Defaults to False.
    """

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        channels_last: bool = False,
    ):
        super().__init__(non_blocking=True)
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def forward(self, data: dict, training: bool = False) -> dict:
        """``pixels`` (B, H, W, 3) uint8 become ``image`` (B, 3, H, W) float32, normalised."""
        data = dict(data)
        for name in ('query', 'key'):
            view = self.cast_data(data[name])
            view['image'] = self.normalise(view.pop('pixels'), view.pop('augmentation', None))
            data[name] = view
        return data

    def normalise(
        self, pixels: Tensor, augmentation: Optional[DeviceAugmentation] = None
    ) -> Tensor:
        images = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=self.memory_format)
        if augmentation is not None:
            images = augment(images, augmentation).contiguous(memory_format=self.memory_format)
        return images.sub_(self.mean).div_(self.std)
