"""Does the photometric steps to a batch on any device.

The loader draws what to do to a view and writes it as numbers. The device does it here, to uint8
levels as in the loader: values are rounded and clipped after each step. The result for an image
does not depend on the other images of its batch, not by one bit, and the host never waits.
"""

from collections.abc import Sequence
from typing import Callable, NamedTuple, Union

import numpy as np
import torch
from torch import Tensor

from plrc_plugin.views.augmentation import (
    LUMA,
    Jitter,
    blur_radius,
    gaussian_kernel,
    hue_steps,
)

# A mix maps the colours x of an image to a x + b grey(x) + c mean(grey(x)), with these a, b, c.
IDENTITY, GREY = (1, 0, 0), (0, 1, 0)
_MIXES = dict(
    brightness=lambda factor: (factor, 0, 0),
    contrast=lambda factor: (factor, 0, 1 - factor),
    saturation=lambda factor: (factor, 1 - factor, 0),
)


class DeviceAugmentation(NamedTuple):
    """What to do to a view, or to the B views of a batch.

    ``functions``: the ``on_device`` of each step, in order. ``coefficients``: the numbers of each
    step, float32, as arrays (...) for a view or tensors (B, ...) for a batch.
    """

    functions: Sequence[Callable[[Tensor, Tensor], Tensor]]
    coefficients: Sequence[Union[np.ndarray, Tensor]]


def stack(augmentations: Sequence[DeviceAugmentation]) -> DeviceAugmentation:
    """Joins those of B views of one pipeline to one for their batch."""
    numbers = zip(*(each.coefficients for each in augmentations))
    return DeviceAugmentation(
        augmentations[0].functions,
        tuple(torch.from_numpy(np.stack(of_step)) for of_step in numbers),
    )


def augment(images: Tensor, augmentation: DeviceAugmentation) -> Tensor:
    """Applies the steps, to each image with its own numbers.

    Args:
        images (Tensor): (B, 3, H, W) float32, whole numbers in [0, 255].
        augmentation (DeviceAugmentation): what to do to the B views, on the images' device.

    Returns:
        Tensor: the images, of the same shape and kind. With MoCo v2's steps they differ from the
            loader's results by rounding: by a level or two for ties and kernels, by at most 7 for
            hues.
    """
    for function, coefficients in zip(*augmentation):
        images = _levels(function(images, coefficients))
    return images


# Computed by products and sums of elements, never of matrices. So precision and algorithm are the
# same for every batch, and neither autocast nor TF32 changes them.


def jitter_coefficients(jitter: Jitter) -> np.ndarray:
    """The numbers of a jitter, (7, 3): three mixes before the hue is turned, the turn in steps
    (negative = none; padded by two zeros), and three mixes after it."""
    before, after, turn = [], [], -1
    for name, amount in jitter:
        if name == 'hue':
            turn = hue_steps(amount)
        else:
            (before if turn < 0 else after).append(_MIXES[name](amount))
    padded = [mixes + [IDENTITY] * (3 - len(mixes)) for mixes in (before, after)]
    return np.array([*padded[0], (turn, 0, 0), *padded[1]], dtype=np.float32)


def jitter(images: Tensor, coefficients: Tensor) -> Tensor:
    """Does the adjustments of :func:`jitter_coefficients`, (B, 7, 3)."""
    steps = coefficients.unbind(1)
    for step in steps[:3]:
        images = _levels(mix(images, step))
    turn = steps[3][:, :1, None, None]
    images = torch.where(turn < 0, images, _turn_hue(images, turn))
    for step in steps[4:]:
        images = _levels(mix(images, step))
    return images


def mix(images: Tensor, coefficients: Tensor) -> Tensor:
    """Mixes each image with its grey copy and its mean grey, with coefficients (B, 3)."""
    a, b, c = coefficients[:, :, None, None, None].unbind(1)
    grey = sum(weight * images[:, i : i + 1] for i, weight in enumerate(LUMA.tolist())).round()
    total = grey.long().sum((2, 3), keepdim=True)  # sums of integers are exact in any order
    mean = (total / grey[0].numel()).round()
    return a * images + (b * grey + c * mean)


def half_kernel(sigma: float, longest: int) -> np.ndarray:
    """The Gaussian kernel from its centre outwards, (longest + 1,), with zeros beyond its
    radius."""
    half, radius = np.zeros(longest + 1, dtype=np.float32), blur_radius(sigma)
    half[: radius + 1] = gaussian_kernel(sigma)[radius:, 0]
    return half


def blur(images: Tensor, half_kernels: Tensor) -> Tensor:
    """Blurs each image with its kernel, (B, r + 1)."""
    for axis in (2, 3):
        images = _blur(images, half_kernels, axis)
    return images


def _levels(values: Tensor) -> Tensor:
    """Rounds and clips values to levels, in place."""
    return values.round_().clamp_(0, 255)


def _turn_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turns the hue by (B, 1, 1, 1) of 256 steps, as the loader does."""
    red, green, blue = images.split(1, dim=1)
    value = images.amax(1, keepdim=True)
    spread = value - images.amin(1, keepdim=True)
    sixths = torch.where(
        value == red,
        green - blue,
        torch.where(value == green, blue - red + 2 * spread, red - green + 4 * spread),
    )
    hue = (sixths * (256 / 6) / spread.clamp(min=1)).round() + turn
    # The distance of the hue from the hues that have no red, no green and no blue.
    fades = [(hue * (6 / 256) + opposite) % 6 for opposite in (5, 3, 1)]
    fades = torch.cat([torch.minimum(x, 4 - x).clamp(0, 1) for x in fades], dim=1)
    return value - (spread * (255 * fades).round() / 255).round()


def _blur(images: Tensor, half_kernel: Tensor, axis: int) -> Tensor:
    """Blurs along one axis with kernels (B, r + 1). The image is mirrored about its outermost
    pixels."""
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
