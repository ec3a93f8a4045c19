"""Fits trunks to images that have other channels than red, green and blue."""

from torch import nn

from plrc_plugin.errors import SettingsError
from plrc_plugin.images.rasters.scaling import MOST_CHANNELS


def check_channels(owner: str, channels: int) -> None:
    """Raises SettingsError, naming ``owner``, unless ``channels`` is a number of channels."""
    if type(channels) is not int or not 1 <= channels <= MOST_CHANNELS:
        raise SettingsError(
            f'{owner}: in_channels must be an integer from 1 to {MOST_CHANNELS}, got {channels!r}'
        )


def channels_of(trunk: nn.Module) -> int:
    """The number of channels that a trunk's first convolution takes."""
    first = next((m for m in trunk.modules() if isinstance(m, nn.Conv2d)), None)
    return getattr(trunk, 'in_channels', 3 if first is None else first.in_channels)


def set_channels(model: nn.Module, channels: int) -> None:
    """Replaces the first convolution of a model by one that takes ``channels`` channels, with
    torch's initialisation."""
    path, first = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    parent, _, name = path.rpartition('.')
    other = nn.Conv2d(
        channels,
        first.out_channels,
        first.kernel_size,
        first.stride,
        first.padding,
        first.dilation,
        bias=first.bias is not None,
    )
    nn.init.kaiming_normal_(other.weight, mode='fan_out', nonlinearity='relu')
    setattr(model.get_submodule(parent), name, other)
