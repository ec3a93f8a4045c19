"""Two augmented views of an image, and where they lie in it (Section 4.1: MoCo v2's recipe)."""

from collections.abc import Sequence
from typing import NamedTuple, Optional, Union

import cv2
import numpy as np

from plrc_plugin.errors import SettingsError, check_positive_integers, check_shares
from plrc_plugin.images.decoding import open_image
from plrc_plugin.images.depth import check_window
from plrc_plugin.randomness import SampleKey, stream
from plrc_plugin.registry import TRANSFORMS
from plrc_plugin.views import augmentation as aug
from plrc_plugin.views.device_augmentation import DeviceAugmentation
from plrc_plugin.views.geometry import crop_affine
from plrc_plugin.views.photometric import Step, build_steps, moco_v2, runs_on_device

# One image is one worker's job: OpenCV's own threads would only fight the other workers.
cv2.setNumThreads(0)


class View(NamedTuple):
    """A view: (size, size, 3) uint8 RGB pixels, the (2, 3) affine map to the image, and what is
    left to do to the pixels on the device."""

    pixels: np.ndarray
    affine: np.ndarray
    augmentation: Optional[DeviceAugmentation] = None


@TRANSFORMS.register_module()
class TwoViews:
    """Decodes the image of ``results`` (``img_path``, or ``stored`` of a shard) once and makes its
    query and key views.

    Augmentation is a function of ``results['sample_key']`` and the view: neither the worker nor
    what was drawn before matters.

    Args:
        size (int): side of a view in pixels. Defaults to 224.
        scale (Sequence[float]): area of a crop as share of the image. Defaults to (0.2, 1).
        ratio (Sequence[float]): range of aspect ratios. Defaults to (3/4, 4/3).
        flip_prob (float): share of views that are mirrored left-right. Defaults to 0.5.
        photometric (str | list[dict]): the steps that change colours and sharpness, configs of
            the registry ``AUGMENTATIONS`` (:mod:`plrc_plugin.views.photometric`), done in their
            order. Defaults to 'moco_v2', the recipe of :func:`photometric.moco_v2`.
        where (str): where these steps are done, here, ``'loader'``, or by the model's
            ``ViewsPreprocessor`` on its ``'device'``, where the loader is too slow for it. What is
            drawn is the same. Defaults to 'loader'. ``photometric='device'`` is short for
            ``where='device'`` with the default recipe.
        window (Sequence[float], optional): the values (low, high) of files with more than 8 bits a
            channel that become 0 and 255, the same for every image. Such files are refused
            without it.
        **recipe: settings of the default recipe: ``jitter``, ``jitter_prob``, ``grey_prob``,
            ``blur_sigma``, ``blur_prob``.

    Crop, flip and each step have a random stream of their own, so that a step more or less leaves
    what the others draw.

    Adds ``results['views']``, a list of two :class:`View`, query first, and ``results['size']``,
    the image's (width, height).

    Raises:
        SettingsError: if a setting cannot work and, from the loader, if a step returns what is no
            image of a view.
    """

    kwargs_of = staticmethod(moco_v2)  # for the check of options

    def __init__(
        self,
        size: int = 224,
        scale: Sequence[float] = (0.2, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        flip_prob: float = 0.5,
        photometric: Union[str, Sequence[dict]] = 'moco_v2',
        where: str = 'loader',
        window: Optional[Sequence[float]] = None,
        **recipe,
    ):
        if photometric in ('loader', 'device'):
            photometric, where = 'moco_v2', photometric
        check_positive_integers('TwoViews', size=size)
        if not aug.is_range(scale, highest=1):
            raise SettingsError(f'TwoViews: scale must be 0 < low <= high <= 1, got {scale!r}')
        if not aug.is_range(ratio):
            raise SettingsError(f'TwoViews: ratio must be 0 < low <= high, got {ratio!r}')
        check_shares('TwoViews', flip_prob=flip_prob)
        if where not in ('loader', 'device'):
            raise SettingsError(f"TwoViews: where must be 'loader' or 'device', got {where!r}")
        self.size = size
        self.scale, self.ratio, self.flip_prob = scale, ratio, flip_prob
        self.steps = build_steps(photometric, **recipe)
        self.where = where
        check_window(window)
        self.window = window
        for step in self.steps.values():
            if where == 'device' and not runs_on_device(step):
                raise SettingsError(
                    f"TwoViews: where='device', and the step {type(step).__name__} has no "
                    "coefficients and on_device to run there: set where='loader', or add them"
                )

    def __call__(self, results: dict) -> dict:
        file = open_image(results, self.window)
        key = results['sample_key']
        boxes = [
            aug.random_crop_box(stream(key, 'crop', v), *file.size, self.scale, self.ratio)
            for v in range(2)
        ]
        # The smallest image whose crops still fill a view.
        image = file.decode(
            size_at_least=[
                max(self.size * full / box[side] for box in boxes)
                for full, side in zip(file.size, (2, 3))
            ]
        )
        results['size'] = file.size
        results['views'] = [
            self._view(key, v, image, box, file.size) for v, box in enumerate(boxes)
        ]
        return results

    def _view(
        self,
        key: SampleKey,
        number: int,
        image: np.ndarray,
        box: aug.Box,
        full_size: Sequence[int],
    ) -> View:
        height, width = image.shape[:2]
        if (width, height) != tuple(full_size):
            box = _scaled(box, width / full_size[0], height / full_size[1])
        flip = stream(key, 'flip', number).random() < self.flip_prob
        pixels = aug.crop_and_resize(image, box, self.size)
        augmentation = None
        drawn = [
            (step, step.draw(stream(key, f'step {name}', number)))
            for name, step in self.steps.items()
        ]
        if self.where == 'device':
            augmentation = DeviceAugmentation(
                tuple(step.on_device for step, _ in drawn),
                tuple(step.coefficients(what) for step, what in drawn),
            )
        else:
            for step, what in drawn:
                if what is not None:
                    pixels = self._checked(step.apply(pixels, what), step)
        if flip:
            pixels = cv2.flip(pixels, 1)
        left, top, w, h = box
        affine = crop_affine(left / width, top / height, w / width, h / height, flip)
        return View(pixels, affine, augmentation)

    def _checked(self, pixels: np.ndarray, step: Step) -> np.ndarray:
        """What a step returned, if it is an image of a view."""
        shape = (self.size, self.size, 3)
        if getattr(pixels, 'dtype', None) != np.uint8 or pixels.shape != shape:
            raise SettingsError(
                f'TwoViews: {type(step).__name__}.apply must return a {shape} uint8 image, got '
                f'{getattr(pixels, "shape", type(pixels).__name__)} '
                f'{getattr(pixels, "dtype", "")}: round, clip and cast, e.g. with '
                'np.clip(values.round(), 0, 255).astype(np.uint8)'
            )
        return pixels


def _scaled(box: aug.Box, x: float, y: float) -> aug.Box:
    """The box in whole pixels of a reduced image; a view's geometry is then that of these."""
    left, top, width, height = box
    right, bottom = round((left + width) * x), round((top + height) * y)
    left, top = min(round(left * x), right - 1), min(round(top * y), bottom - 1)
    return left, top, right - left, bottom - top
