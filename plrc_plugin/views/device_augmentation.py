"""The photometric part of the augmentation, on a batch and on any device.

The loader draws what is to be done to a view and writes it as numbers; here it is done, to uint8
levels as in the loader: after each step values are rounded and clipped. The result of an image
depends on no other of its batch, to the bit, and the host never waits.
"""

from typing import NamedTuple, Union

import numpy as np
import torch
from torch import Tensor

from plrc_plugin.views.augmentation import (
    LUMA,
    Photometric,
    blur_radius,
    gaussian_kernel,
    hue_steps,
)

Array = Union[np.ndarray, Tensor]

# A step maps the colours x of an image to a x + b grey(x) + c mean(grey(x)), with these a, b, c.
_STEPS = dict(
    brightness=lambda factor: (factor, 0, 0),
    contrast=lambda factor: (factor, 0, 1 - factor),
    saturation=lambda factor: (factor, 1 - factor, 0),
)
_IDENTITY, _GREY = (1, 0, 0), (0, 1, 0)


class DeviceAugmentation(NamedTuple):
    """What to apply to a view, as arrays, or to B views, as tensors with a first dimension B.

    ``before``, (3, 3), and ``after``, (4, 3): coefficients of the steps before the hue is turned
    and after it; ``hue``, (): steps of the turn, negative = none; ``blur``, (r + 1,): half of the
    Gaussian kernel, from its centre outwards. All float32.
    """

    before: Array
    after: Array
    hue: Array
    blur: Array


def for_device(drawn: Photometric, largest_sigma: float) -> DeviceAugmentation:
    """The numbers for what was drawn; kernels are as long as the one of ``largest_sigma``."""
    before, after, hue = [], [], -1
    for name, amount in drawn.jitter:
        if name == 'hue':
            hue = hue_steps(amount)
        else:
            (before if hue < 0 else after).append(_STEPS[name](amount))
    after += [_GREY] * drawn.grey
    blur, radius = np.zeros(blur_radius(largest_sigma) + 1), blur_radius(drawn.blur_sigma)
    blur[: radius + 1] = gaussian_kernel(drawn.blur_sigma)[radius:, 0]
    return DeviceAugmentation(
        np.array(before + [_IDENTITY] * (3 - len(before)), dtype=np.float32),
        np.array(after + [_IDENTITY] * (4 - len(after)), dtype=np.float32),
        np.array(hue, dtype=np.float32),
        blur.astype(np.float32),
    )


def augment(images: Tensor, augmentation: DeviceAugmentation) -> Tensor:
    """Jitter, greyscale and blur, each image with its own numbers.

    Args:
        images (Tensor): (B, 3, H, W) float32, whole numbers in [0, 255].
        augmentation (DeviceAugmentation): of the B views, on the images' device.

    Returns:
        Tensor: likewise. Differs from what the loader would have made by the rounding of ties and
        of kernels, by a level or two, and of hues, by 7 at most.
    """
    for step in augmentation.before.unbind(1):
        images = _mix(images, step)
    hue = augmentation.hue[:, None, None, None]
    images = torch.where(hue < 0, images, _turn_hue(images, hue))
    for step in augmentation.after.unbind(1):
        images = _mix(images, step)
    for axis in (2, 3):
        images = _blur(images, augmentation.blur, axis)
    return _levels(images)


# In products and sums of elements, never of matrices: whatever the batch, precision and algorithm
# are the same, and neither autocast nor TF32 changes them.


def _levels(values: Tensor) -> Tensor:
    """Rounded and clipped, in place."""
    return values.round_().clamp_(0, 255)


def _mix(images: Tensor, step: Tensor) -> Tensor:
    """A step of colour with coefficients (B, 3)."""
    a, b, c = step[:, :, None, None, None].unbind(1)
    grey = sum(weight * images[:, i : i + 1] for i, weight in enumerate(LUMA.tolist()))
    total = grey.round().long().sum((2, 3), keepdim=True)  # of integers: exact in any order
    mean = (total / grey[0].numel()).round()
    return _levels(a * images + (b * grey + c * mean))


def _turn_hue(images: Tensor, turn: Tensor) -> Tensor:
    """The hue turned by (B, 1, 1, 1) steps, in OpenCV's bytes: 256 steps of hue there, 255 back."""
    red, green, blue = images.split(1, dim=1)
    value = images.amax(1, keepdim=True)
    spread = value - images.amin(1, keepdim=True)
    sixths = torch.where(
        value == red,
        green - blue,
        torch.where(value == green, blue - red + 2 * spread, red - green + 4 * spread),
    )
    hue = ((sixths * (256 / 6) / spread.clamp(min=1)).round() + turn) % 256
    saturation = (255 * spread / value.clamp(min=1)).round()
    # How far the hue is from where a colour has no red, no green, no blue.
    fades = [(hue * (6 / 255) + opposite) % 6 for opposite in (5, 3, 1)]
    fades = torch.cat([torch.minimum(x, 4 - x).clamp(0, 1) for x in fades], dim=1)
    return _levels(value * (1 - saturation / 255 * fades))


def _blur(images: Tensor, half_kernel: Tensor, axis: int) -> Tensor:
    """Along one axis, with kernels (B, r + 1), the image mirrored about its outermost pixels."""
    size, radius = images.shape[axis], half_kernel.shape[1] - 1
    position = torch.arange(-radius, size + radius, device=images.device)
    position = position % max(2 * (size - 1), 1)
    mirrored = images.index_select(axis, torch.minimum(position, 2 * (size - 1) - position))
    weights = half_kernel[:, :, None, None, None].unbind(1)
    blurred = weights[0] * images
    for offset, weight in enumerate(weights[1:], start=1):
        blurred += weight * (
            mirrored.narrow(axis, radius - offset, size)
            + mirrored.narrow(axis, radius + offset, size)
        )
    return blurred
