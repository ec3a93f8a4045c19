"""Turns a batch of uint8 views into normalised images on the device."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Optional

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor, nn

from plrc_plugin.checkpoints.input_style import InputStyle
from plrc_plugin.errors import SettingsError
from plrc_plugin.models.input_channels import channels_of
from plrc_plugin.models.view_batch import ViewBatch
from plrc_plugin.registry import MODELS
from plrc_plugin.views.device_augmentation import DeviceAugmentation, augment


@MODELS.register_module()
class ViewsPreprocessor(BaseDataPreprocessor):
    """Moves a batch of :func:`~plrc_plugin.datasets.collate_views` and adds ``image`` to its views.

    Pixels travel as uint8, which is a quarter of the bytes of float32, and are normalised on the
    device. With ``TwoViews(where='device')`` they are augmented there first.

    Args:
        mean (Sequence[float], optional): of the channels in [0, 255], in their order, or one for
            all. Defaults to what the trunk expects, where it says so as ``TimmTrunk`` does, and
            else to ImageNet's; where there are not three channels, to their average for each.
        std (Sequence[float], optional): likewise.
        channels_last (bool): memory format of the images. Defaults to False.
        order (str): of the channels that the trunk gets, 'RGB' or 'BGR'. Defaults to 'RGB'.

    Raises:
        SettingsError: if a setting cannot work, such as a mean of pixels in [0, 1].
    """

    def __init__(
        self,
        mean: Optional[Sequence[float]] = None,
        std: Optional[Sequence[float]] = None,
        channels_last: bool = False,
        order: str = 'RGB',
    ):
        super().__init__(non_blocking=True)
        if order not in ('RGB', 'BGR'):
            raise SettingsError(f"ViewsPreprocessor: order must be 'RGB' or 'BGR', got {order!r}")
        self.order = order
        self._given = mean is not None or std is not None
        _check_scale(mean, std)
        self._set(InputStyle().mean if mean is None else mean, 'mean')
        self._set(InputStyle().std if std is None else std, 'std')
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def _set(self, values: Sequence[float], name: str) -> None:
        self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def follow(self, trunk: nn.Module) -> None:
        """Adopts the normalisation that the trunk expects, unless one was given.

        Raises:
            SettingsError: if the trunk takes another number of channels than this gives.
        """
        style, channels = getattr(trunk, 'input_style', None), channels_of(trunk)
        if not self._given and (style is not None or channels != 3):
            style = style or InputStyle()
            for name in ('mean', 'std'):
                values = getattr(style, name)
                if len(values) != channels:
                    values = (sum(values) / len(values),) * channels
                self._set(values, name)
        given = {len(self.mean), len(self.std)} - {1, channels}
        if given:
            raise SettingsError(
                f'ViewsPreprocessor: mean or std has {given.pop()} values, and the trunk takes '
                f'{channels} channels: give one for each, or one for all'
            )
        if self.order == 'BGR' and channels != 3:
            raise SettingsError(
                f"ViewsPreprocessor: order='BGR', and the trunk takes {channels} channels: leave "
                'it out'
            )

    def forward(self, data: dict, training: bool = False) -> dict:
        """Turns ``pixels`` (B, H, W, C), uint8 or float32 in [0, 255], into ``image`` (B, C, H, W),
        float32 and normalised."""
        data = dict(data)
        for name in ('query', 'key'):
            view = self.cast_data(ViewBatch.of(data[name]))
            image = self.normalise(view.pixels, view.augmentation)
            data[name] = view._replace(pixels=None, image=image, augmentation=None)
        return data

    def normalise(
        self, pixels: Tensor, augmentation: Optional[DeviceAugmentation] = None
    ) -> Tensor:
        images = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=self.memory_format)
        if augmentation is not None:
            images = augment(images, augmentation).contiguous(memory_format=self.memory_format)
        if self.order == 'BGR':
            images = images.flip(1)
        if pixels.is_floating_point():  # the pixels may be the caller's own memory
            return (images - self.mean).div_(self.std)
        return images.sub_(self.mean).div_(self.std)


def _check_scale(mean: Optional[Sequence[float]], std: Optional[Sequence[float]]) -> None:
    for name, values in (('mean', mean), ('std', std)):
        if values is None:
            continue
        listed = isinstance(values, (list, tuple)) and len(values)
        if not listed or not all(isinstance(v, Real) and math.isfinite(v) for v in values):
            raise SettingsError(
                f'ViewsPreprocessor: {name} must be a list of numbers, got {values!r}'
            )
        if name == 'std' and min(values) <= 0:
            raise SettingsError(f'ViewsPreprocessor: std must be above 0, got {values!r}')
        if any(values) and max(abs(v) for v in values) < 1:
            raise SettingsError(
                f'ViewsPreprocessor: {name}={list(values)} is of pixels in [0, 1], and here they '
                f'are in [0, 255]: {name}={[round(255 * v, 3) for v in values]}'
            )
