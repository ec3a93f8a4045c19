"""The steps that change colours and sharpness of a view, and MoCo v2's recipe.

A step is a class in the registry ``AUGMENTATIONS``. It has two methods, and two more if it can run
on the device:

``draw(rng)``
    Draws what to do to a view from the ``numpy.random.Generator``. None leaves the view as it is.
``apply(image, drawn)``
    Does it to an (H, W, 3) uint8 RGB image and returns another of that shape and type. It is not
    called for None. A class with ``any_channels = True`` takes (H, W, C) float32 in [0, 255] too,
    see :mod:`plrc_plugin.views.levels`.
``coefficients(drawn)``
    Returns what was drawn as float32 numbers, (...). Their shape is the same for every draw, None
    included.
``on_device(images, coefficients)``
    A static method that does it to images (B, 3, H, W) float32, whole numbers in [0, 255]. Each
    image has its own numbers, (B, ...). The result is rounded and clipped afterwards.
"""

from collections.abc import Sequence
from math import inf
from numbers import Real
from typing import Optional, Protocol, Union

import numpy as np

from plrc_plugin.errors import SettingsError, check_shares
from plrc_plugin.registry import AUGMENTATIONS
from plrc_plugin.views import augmentation as aug
from plrc_plugin.views import device_augmentation as device


class Step(Protocol):
    """The methods that every step has."""

    def draw(self, rng: np.random.Generator) -> Optional[object]: ...

    def apply(self, image: np.ndarray, drawn: object) -> np.ndarray: ...


@AUGMENTATIONS.register_module()
class ColorJitter:
    """Changes brightness, contrast, saturation and hue in random order.

    Args:
        brightness (float): the factor is uniform in 1 ± this value, and at least 0. Defaults to
            0.4.
        contrast (float): likewise.
        saturation (float): likewise.
        hue (float): the turn is uniform in ± this share of the colour circle. Defaults to 0.1.
        prob (float): share of views that are changed. Defaults to 0.8.

    An adjustment of strength 0 is left out.

    Raises:
        SettingsError: if a strength is negative, hue exceeds 0.5, or prob is no share.
    """

    def __init__(
        self,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.4,
        hue: float = 0.1,
        prob: float = 0.8,
    ):
        strengths = dict(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)
        for name, strength in strengths.items():
            most = 0.5 if name == 'hue' else inf
            if not isinstance(strength, Real) or not 0 <= strength <= most or strength == inf:
                raise SettingsError(
                    f'ColorJitter: {name} must be a number of at least 0'
                    f'{" and at most 0.5" * (name == "hue")}, got {strength!r}'
                )
        check_shares('ColorJitter', prob=prob)
        self.prob = prob
        self._lowest = [max(0, 1 - x) for x in (brightness, contrast, saturation)] + [-hue]
        self._highest = [1 + x for x in (brightness, contrast, saturation)] + [hue]
        self._names = list(strengths)
        self._used = [i for i, strength in enumerate(strengths.values()) if strength]

    def draw(self, rng: np.random.Generator) -> Optional[aug.Jitter]:
        """Draws the adjustments and their amounts, in the order in which to do them. Factors have
        12 bits, so that their products with bytes are exact, in the loader and on the device."""
        change, *numbers = rng.random(9).tolist()
        if change >= self.prob:
            return None
        order = sorted(self._used, key=numbers[4:].__getitem__)
        low, high = self._lowest, self._highest
        drawn = [(self._names[i], low[i] + numbers[i] * (high[i] - low[i])) for i in order]
        return [(name, x if name == 'hue' else aug.to_12_bits(x)) for name, x in drawn]

    def apply(self, image: np.ndarray, drawn: aug.Jitter) -> np.ndarray:
        return aug.color_jitter(image, drawn)

    def coefficients(self, drawn: Optional[aug.Jitter]) -> np.ndarray:
        return device.jitter_coefficients(drawn or [])

    on_device = staticmethod(device.jitter)


@AUGMENTATIONS.register_module()
class Greyscale:
    """Removes the colour: all three channels become the luma.

    Args:
        prob (float): share of views that are changed. Defaults to 0.2.

    Raises:
        SettingsError: if prob is no share.
    """

    def __init__(self, prob: float = 0.2):
        check_shares('Greyscale', prob=prob)
        self.prob = prob

    def draw(self, rng: np.random.Generator) -> Optional[bool]:
        return True if rng.random() < self.prob else None

    def apply(self, image: np.ndarray, drawn: bool) -> np.ndarray:
        return aug.to_grey(image)

    def coefficients(self, drawn: Optional[bool]) -> np.ndarray:
        return np.array(device.GREY if drawn else device.IDENTITY, dtype=np.float32)

    on_device = staticmethod(device.mix)


@AUGMENTATIONS.register_module()
class GaussianBlur:
    """Blurs a view.

    Args:
        sigma (Sequence[float]): range in which the standard deviation is uniform, in pixels of the
            view. Defaults to (0.1, 2).
        prob (float): share of views that are changed. Defaults to 0.5.

    Raises:
        SettingsError: if sigma is no range, or prob is no share.
    """

    any_channels = True

    def __init__(self, sigma: Sequence[float] = (0.1, 2.0), prob: float = 0.5):
        if not aug.is_range(sigma):
            raise SettingsError(f'GaussianBlur: sigma must be 0 < low <= high, got {sigma!r}')
        check_shares('GaussianBlur', prob=prob)
        self.sigma, self.prob = tuple(sigma), prob

    def draw(self, rng: np.random.Generator) -> Optional[float]:
        change, share = rng.random(2).tolist()
        low, high = self.sigma
        return low + share * (high - low) if change < self.prob else None

    def apply(self, image: np.ndarray, drawn: float) -> np.ndarray:
        return aug.gaussian_blur(image, drawn).reshape(image.shape)

    def coefficients(self, drawn: Optional[float]) -> np.ndarray:
        return device.half_kernel(drawn or 0, longest=aug.blur_radius(self.sigma[1]))

    on_device = staticmethod(device.blur)


def moco_v2(
    jitter: Sequence[float] = (0.4, 0.4, 0.4, 0.1),
    jitter_prob: float = 0.8,
    grey_prob: float = 0.2,
    blur_sigma: Sequence[float] = (0.1, 2.0),
    blur_prob: float = 0.5,
) -> list[dict]:
    """Returns the photometric recipe of MoCo v2 as a list of configs. ``jitter`` holds the
    strengths of brightness, contrast, saturation and hue."""
    names = ('brightness', 'contrast', 'saturation', 'hue')
    if not isinstance(jitter, Sequence) or len(jitter) != len(names):
        raise SettingsError(f'jitter must be four strengths ({", ".join(names)}), got {jitter!r}')
    return [
        dict(type='ColorJitter', **dict(zip(names, jitter)), prob=jitter_prob),
        dict(type='Greyscale', prob=grey_prob),
        dict(type='GaussianBlur', sigma=blur_sigma, prob=blur_prob),
    ]


def build_steps(photometric: Union[str, Sequence[dict]], **recipe) -> dict[str, Step]:
    """Builds the steps in their order, each under the name of its random stream.

    The name is the step's type and, from the second step of a type on, its number. So a step that
    is added changes no draws of other types, and of its own type only those of the steps behind it.

    Args:
        photometric (str | Sequence[dict]): 'moco_v2', or configs of steps.
        **recipe: settings of :func:`moco_v2`.

    Raises:
        SettingsError: if it is no list of steps, for an unknown type, a class that is no step, a
            step whose settings cannot work, or settings of a recipe beside a list.
    """
    owner = f'TwoViews: {", ".join(recipe) or "photometric"}'
    try:
        configs = moco_v2(**recipe)
        if photometric != 'moco_v2' and recipe:
            raise SettingsError(
                "belongs to photometric='moco_v2', and a list of steps is given in its place: set "
                'what you want at the step in that list'
            )
        if photometric != 'moco_v2':
            configs = photometric
        if not isinstance(configs, (list, tuple)):
            raise SettingsError(
                "must be 'moco_v2' or a list of steps such as "
                f"[dict(type='ColorJitter'), dict(type='Greyscale')], got {configs!r}"
            )
        steps = {}
        for config in configs:
            step = _build_step(config)
            name = type(step).__name__
            number = sum(type(other).__name__ == name for other in steps.values())
            steps[f'{name} {number + 1}' if number else name] = step
    except (SettingsError, TypeError) as error:  # TypeError: an unknown setting of a step
        raise SettingsError(f'{owner}: {error}') from None
    return steps


def _build_step(config: dict) -> Step:
    kind = config.get('type') if isinstance(config, dict) else None
    if kind is None or (isinstance(kind, str) and AUGMENTATIONS.get(kind) is None):
        raise SettingsError(
            f'each step must be a dict with a type of {sorted(AUGMENTATIONS.module_dict)}, got '
            f'{config!r}; if the step is your own, name its module in custom_imports of the config'
        )
    step = AUGMENTATIONS.build(config)
    if not (hasattr(step, 'draw') and hasattr(step, 'apply')):
        raise SettingsError(f'{type(step).__name__} is no step: it needs draw and apply')
    return step


def runs_on_device(step: Step) -> bool:
    """Whether a step has the methods that the device needs."""
    return hasattr(step, 'coefficients') and hasattr(step, 'on_device')
