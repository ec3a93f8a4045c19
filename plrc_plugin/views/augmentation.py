"""Operations on the pixels of a view, on uint8 arrays.

They do what torchvision's transforms of the same names do. OpenCV computes them, because it is
several times faster than Pillow on one core.
"""

import math
from collections.abc import Sequence
from numbers import Real

import cv2
import numpy as np
import torch
from torch.nn.functional import interpolate

try:
    from plrc_plugin.views import compiled_jitter
except ImportError:  # numba comes with the extra 'speed'
    compiled_jitter = None

# Luma weights of ITU-R BT.601, as Pillow and torchvision turn RGB to grey.
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)

_MOST_AT_ONCE = 4  # most channels that OpenCV averages over areas

Box = tuple[int, int, int, int]
Jitter = list[tuple[str, float]]


def is_range(values: object, highest: float = math.inf) -> bool:
    """Whether the value is two numbers, 0 < low <= high <= ``highest``."""
    return (
        isinstance(values, (list, tuple))
        and len(values) == 2
        and all(isinstance(value, Real) for value in values)
        and 0 < values[0] <= values[1] <= highest
    )


def random_crop_box(
    rng: np.random.Generator,
    width: int,
    height: int,
    scale: Sequence[float] = (0.2, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
) -> Box:
    """The box of a RandomResizedCrop: (left, top, width, height) in pixels.

    The area is uniform in ``scale`` (share of the image), and the aspect ratio is log-uniform in
    ``ratio``. If ten boxes do not fit, the result is the central box of the nearest allowed ratio.
    """
    log_ratio = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        share, aspect, x, y = rng.random(4).tolist()
        area = width * height * (scale[0] + share * (scale[1] - scale[0]))
        aspect = math.exp(log_ratio[0] + aspect * (log_ratio[1] - log_ratio[0]))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(x * (width - w + 1)), int(y * (height - h + 1)), w, h
    w = max(1, min(width, round(height * ratio[1])))
    h = max(1, min(height, round(width / ratio[0])))
    return (width - w) // 2, (height - h) // 2, w, h


def crop_and_resize(image: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Resizes a box of an (H, W, C) image to (size, size, C), bilinearly.

    If both sides shrink, the filter is as wide as the pixels of the view, and the result differs
    from Pillow's by at most one level. If one side grows, the filter is not widened along the
    other.
    """
    left, top, width, height = box
    crop = image[top : top + height, left : left + width]
    if width <= size or height <= size:
        if image.shape[2] > _MOST_AT_ONCE:
            return resize(crop, size, cv2.INTER_LINEAR)
        return cv2.resize(crop, (size, size), interpolation=cv2.INTER_LINEAR)
    # Of a batch whose channels come last torch keeps that layout, at a third of the time.
    pixels = torch.from_numpy(np.require(crop, requirements='W'))[None].permute(0, 3, 1, 2)
    resized = interpolate(pixels, (size, size), mode='bilinear', antialias=True)
    return np.ascontiguousarray(resized.permute(0, 2, 3, 1)[0].numpy())


def resize(image: np.ndarray, size: int, interpolation: int = cv2.INTER_AREA) -> np.ndarray:
    """Resizes an image (H, W, C) of any number of channels to (size, size, C)."""
    parts = [
        cv2.resize(
            np.ascontiguousarray(image[..., first : first + _MOST_AT_ONCE]),
            (size, size),
            interpolation=interpolation,
        ).reshape(size, size, -1)
        for first in range(0, image.shape[2], _MOST_AT_ONCE)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)


def adjust_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends the image with black; factor 1 leaves it as it is."""
    return cv2.convertScaleAbs(image, alpha=factor)


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends the image with its mean grey."""
    mean = round(cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0])
    return cv2.addWeighted(image, factor, image, 0, mean * (1 - factor))


def adjust_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends the image with its grey copy."""
    return cv2.addWeighted(image, factor, to_grey(image), 1 - factor, 0)


def adjust_hue(image: np.ndarray, shift: float) -> np.ndarray:
    """Turns the hue by ``shift``, a share of the circle, in 256 steps."""
    hue = cv2.extractChannel(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL), 0)
    red, green, blue = cv2.split(image)
    value = cv2.max(cv2.max(red, green), blue)
    spread = cv2.subtract(value, cv2.min(cv2.min(red, green), blue))
    fades = cv2.applyColorMap(hue, np.roll(FADES, -hue_steps(shift), axis=0))
    less = cv2.multiply(fades, cv2.cvtColor(spread, cv2.COLOR_GRAY2RGB), scale=1 / 255)
    return cv2.subtract(cv2.cvtColor(value, cv2.COLOR_GRAY2RGB), less)


def _fades() -> np.ndarray:
    """For each hue, how far red, green and blue are from the brightest channel: (256, 1, 3) uint8,
    where 255 is the whole spread of the channels."""
    sixths = (np.arange(256)[:, None, None] * (6 / 256) + [5, 3, 1]) % 6
    return np.rint(255 * np.minimum(sixths, 4 - sixths).clip(0, 1)).astype(np.uint8)


FADES = _fades()


def hue_steps(shift: float) -> int:
    """A share of the circle in 256 steps, rounded as torchvision rounds."""
    return int(shift * 255) % 256


def to_12_bits(factor: float) -> float:
    """The nearest multiple of 1 / 4096. Its products with bytes are exact in float32, and so the
    same on any processor."""
    return round(factor * 4096) / 4096


def color_jitter(image: np.ndarray, jitter: Jitter) -> np.ndarray:
    """Does the adjustments in their order. Factors are rounded to 12 bits, see
    :func:`to_12_bits`."""
    jitter = [(name, x if name == 'hue' else to_12_bits(x)) for name, x in jitter]
    if compiled_jitter is not None:
        return compiled_jitter.color_jitter(
            image, [(name, hue_steps(x) if name == 'hue' else x) for name, x in jitter]
        )
    adjust = dict(
        brightness=adjust_brightness,
        contrast=adjust_contrast,
        saturation=adjust_saturation,
        hue=adjust_hue,
    )
    for name, amount in jitter:
        image = adjust[name](image, amount)
    return image


def to_grey(image: np.ndarray) -> np.ndarray:
    """Puts the luma into all three channels."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def blur_radius(sigma: float) -> int:
    """How many pixels on either side a blur reads: the integer nearest to 3 ``sigma``."""
    return round(3 * sigma)


def gaussian_kernel(sigma: float) -> np.ndarray:
    """The Gaussian kernel, (2 r + 1, 1) float64, where r is the :func:`blur_radius`; it is (1, 1)
    for 0."""
    return cv2.getGaussianKernel(2 * blur_radius(sigma) + 1, sigma)


def gaussian_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Blurs an image with a standard deviation of ``sigma`` pixels."""
    if blur_radius(sigma) == 0:
        return image
    kernel = gaussian_kernel(sigma)
    return cv2.sepFilter2D(image, -1, kernel, kernel)  # cv2.GaussianBlur takes twice as long
