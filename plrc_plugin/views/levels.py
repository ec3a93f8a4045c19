"""Photometric steps that make sense whatever the channels measure: levels and noise, no hue.

They take views (H, W, C) as float32 in [0, 255] and as uint8, and return the same type.
"""

from collections.abc import Sequence
from numbers import Real
from typing import NamedTuple, Optional

import numpy as np

from plrc_plugin.errors import SettingsError, check_shares
from plrc_plugin.images.rasters.scaling import MOST_CHANNELS
from plrc_plugin.registry import AUGMENTATIONS
from plrc_plugin.views import augmentation as aug


class Levels(NamedTuple):
    """What :class:`LevelJitter` draws: ``factors`` (16,) float32, one for each possible channel,
    and the factor of the contrast."""

    factors: np.ndarray
    contrast: float


@AUGMENTATIONS.register_module()
class LevelJitter:
    """Changes brightness and contrast of a view, and the brightness of each channel a little more.

    Args:
        brightness (float): the common factor is uniform in 1 ± this value, and at least 0. Defaults
            to 0.4.
        contrast (float): likewise for the factor of the distance to the mean over the view.
        channel (float): likewise for a further factor of each channel. Defaults to 0.1.
        prob (float): share of views that are changed. Defaults to 0.8.

    Raises:
        SettingsError: if a strength is no number of at least 0, or prob is no share.
    """

    any_channels = True

    def __init__(
        self,
        brightness: float = 0.4,
        contrast: float = 0.4,
        channel: float = 0.1,
        prob: float = 0.8,
    ):
        for name, value in dict(brightness=brightness, contrast=contrast, channel=channel).items():
            if not isinstance(value, Real) or not 0 <= value < np.inf:
                raise SettingsError(
                    f'LevelJitter: {name} must be a number of at least 0, got {value!r}'
                )
        check_shares('LevelJitter', prob=prob)
        self.brightness, self.contrast, self.channel = brightness, contrast, channel
        self.prob = prob

    def draw(self, rng: np.random.Generator) -> Optional[Levels]:
        change, common, contrast, *each = rng.random(3 + MOST_CHANNELS).tolist()
        if change >= self.prob:
            return None
        factors = _factor(np.array(each), self.channel) * _factor(common, self.brightness)
        return Levels(factors.astype(np.float32), float(_factor(contrast, self.contrast)))

    def apply(self, image: np.ndarray, drawn: Levels) -> np.ndarray:
        values = image * drawn.factors[: image.shape[2]]
        mean = np.float32(values.mean(dtype=np.float64))
        values -= mean
        values *= np.float32(drawn.contrast)
        values += mean
        return _of_type(values, image.dtype)


@AUGMENTATIONS.register_module()
class GaussianNoise:
    """Adds noise, independent for each pixel and channel.

    Args:
        sigma (Sequence[float]): range in which the standard deviation is uniform, in units in which
            the view goes from 0 to 255. Defaults to (0.5, 5).
        prob (float): share of views that are changed. Defaults to 0.5.

    Raises:
        SettingsError: if sigma is no range, or prob is no share.
    """

    any_channels = True

    def __init__(self, sigma: Sequence[float] = (0.5, 5.0), prob: float = 0.5):
        if not aug.is_range(sigma):
            raise SettingsError(f'GaussianNoise: sigma must be 0 < low <= high, got {sigma!r}')
        check_shares('GaussianNoise', prob=prob)
        self.sigma, self.prob = tuple(sigma), prob

    def draw(self, rng: np.random.Generator) -> Optional[tuple[float, int]]:
        """Draws the deviation, and the seed of the noise."""
        change, share = rng.random(2).tolist()
        seed = int(rng.integers(2**63))
        low, high = self.sigma
        return (low + share * (high - low), seed) if change < self.prob else None

    def apply(self, image: np.ndarray, drawn: tuple[float, int]) -> np.ndarray:
        sigma, seed = drawn
        rng = np.random.Generator(np.random.PCG64(seed))
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        noise *= np.float32(sigma)
        noise += image
        return _of_type(noise, image.dtype)


def levels() -> list[dict]:
    """Returns the photometric recipe for images that are not 8-bit RGB, a list of configs."""
    return [dict(type='LevelJitter'), dict(type='GaussianBlur'), dict(type='GaussianNoise')]


def _factor(share, strength: float):
    """The factor in 1 ± ``strength``, at least 0, at ``share`` in [0, 1) of that range."""
    low = max(0.0, 1 - strength)
    return low + share * (1 + strength - low)


def _of_type(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    np.clip(values, 0, 255, out=values)
    return values.round().astype(np.uint8) if dtype == np.uint8 else values
