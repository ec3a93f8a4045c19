"""The first convolution of RGB weights, for trunks of other channels."""

from typing import Optional

from torch import Tensor, nn

from plrc_plugin.errors import SettingsError

WAYS = ('mean', 'repeat')


def adapt_channels(
    path: str, trunk: nn.Module, tensors: dict[str, Tensor], way: Optional[str]
) -> list[str]:
    """Fits the first convolution among ``tensors``, in place, to the channels of a trunk.

    'mean' gives every channel the mean of red's, green's and blue's weights, 'repeat' gives channel
    c those of colour c modulo 3. Both are scaled by 3 / C, so that C equal channels give what three
    equal colours gave, exactly so with 'mean'.

    Args:
        path: the file's path, for messages.
        trunk: the module to fill.
        tensors: the weights of the file under the names of the trunk.
        way: 'mean', 'repeat', or None if nobody chose one.

    Returns:
        One line that says what was done, or none where the channels are those of the file.

    Raises:
        SettingsError: if the channels differ and nobody said how to adapt them.
    """
    if way is not None and way not in WAYS:
        raise SettingsError(f'pretrained_channels must be one of {", ".join(WAYS)}, got {way!r}')
    name, first = next(
        ((f'{n}.weight', m) for n, m in trunk.named_modules() if isinstance(m, nn.Conv2d)),
        ('', None),
    )
    given = tensors.get(name)
    if first is None or given is None or given.dim() != 4 or given.shape[1] == first.in_channels:
        return []
    channels = first.in_channels
    same = (given.shape[0], *given.shape[2:]) == (first.out_channels, *first.kernel_size)
    if given.shape[1] != 3 or not same or first.groups != 1:
        return []  # another network or other channels; the later comparison of shapes reports it
    if way is None:
        raise SettingsError(
            f'{path} has weights for 3 channels, and the trunk takes {channels}: set '
            "pretrained_channels='mean' (each channel gets the mean of the colours' weights) or "
            "'repeat' (they take turns)"
        )
    if way == 'mean':
        adapted = given.mean(1, keepdim=True).repeat(1, channels, 1, 1)
    else:
        adapted = given[:, [c % 3 for c in range(channels)]]
    tensors[name] = adapted * (3 / channels)
    what = 'the mean of RGB' if way == 'mean' else 'red, green, blue in turn'
    return [f'{name}: {channels} channels from {what}, times 3/{channels} (pretrained_channels)']
