"""Makes two augmented views of an image, and tells where they lie in it (Section 4.1: MoCo v2's
recipe)."""

from collections.abc import Sequence
from typing import NamedTuple, Optional, Union

import cv2
import numpy as np

from plrc_plugin.errors import SettingsError, check_positive_integers, check_shares
from plrc_plugin.images.rasters.scaling import Window
from plrc_plugin.randomness import SampleKey, stream
from plrc_plugin.registry import TRANSFORMS
from plrc_plugin.views import augmentation as aug
from plrc_plugin.views.device_augmentation import DeviceAugmentation
from plrc_plugin.views.geometry import crop_affine
from plrc_plugin.views.levels import levels
from plrc_plugin.views.opening import Opener
from plrc_plugin.views.photometric import Step, build_steps, moco_v2, runs_on_device

# Each worker has an image of its own, so that OpenCV's threads would only compete with the other
# workers.
cv2.setNumThreads(0)


class View(NamedTuple):
    """A view: its pixels, (size, size, 3) uint8 RGB, or (size, size, C) float32 in [0, 255] if the
    pipeline declares channels; the affine map (2, 3) to the image; and what is left to do to the
    pixels on the device."""

    pixels: np.ndarray
    affine: np.ndarray
    augmentation: Optional[DeviceAugmentation] = None


@TRANSFORMS.register_module()
class TwoViews:
    """Decodes the image of ``results`` (``img_path``, or ``stored`` for an image in a shard) once
    and makes its query and key views.

    The augmentation is a function of ``results['sample_key']`` and of the view. It depends neither
    on the worker nor on earlier draws.

    Args:
        size (int): side of a view in pixels. Defaults to 224.
        scale (Sequence[float]): area of a crop as share of the image. Defaults to (0.2, 1).
        ratio (Sequence[float]): range of aspect ratios. Defaults to (3/4, 4/3).
        flip_prob (float): share of views that are mirrored left-right. Defaults to 0.5.
        photometric (str | list[dict]): the steps that change colours and sharpness, configs of the
            registry ``AUGMENTATIONS`` (:mod:`plrc_plugin.views.photometric`), in the order in which
            they are done. Defaults to 'moco_v2', the recipe of :func:`photometric.moco_v2`, and
            with ``channels`` to 'levels', that of :func:`~plrc_plugin.views.levels.levels`.
        where (str): where these steps are done: ``'loader'``, in this step, or ``'device'``, by the
            model's ``ViewsPreprocessor``, for a loader that is too slow. The draws are the same.
            Defaults to 'loader'. ``photometric='device'`` is short for ``where='device'`` with the
            default recipe.
        window (Sequence[float], optional): the values (low, high) of files with more than 8 bits a
            channel that become 0 and 255, the same for every image. Such files are refused
            without it. With ``channels`` it may also be one pair for each channel, or how to
            measure it on the data set: ``'percentiles'``, ``'dtype'`` or ``'dicom'``, see
            docs/depth.md.
        channels (int, optional): number of channels of the images, 1 to 16. Images may then have
            any depth, and views are float32. Defaults to None, for 8-bit RGB.
        max_pixels (int, optional): most pixels that are decoded at once. Defaults to 178,956,970.
        **recipe: settings of the default recipe: ``jitter``, ``jitter_prob``, ``grey_prob``,
            ``blur_sigma``, ``blur_prob``.

    Crop, flip and each step have a random stream of their own, so that adding or removing a step
    does not change the draws of the others.

    Adds ``results['views']``, a list of two :class:`View`, query first, and ``results['size']``,
    the image's (width, height). Where ``results['area']`` names a part of the image, that part
    counts as the image.

    Raises:
        SettingsError: if a setting cannot work and, in the loader, if a step returns something that
            is no image of a view.
    """

    kwargs_of = staticmethod(moco_v2)  # used by the check of options

    def __init__(
        self,
        size: int = 224,
        scale: Sequence[float] = (0.2, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        flip_prob: float = 0.5,
        photometric: Union[str, Sequence[dict], None] = None,
        where: str = 'loader',
        window: Optional[Window] = None,
        channels: Optional[int] = None,
        max_pixels: Optional[int] = None,
        **recipe,
    ):
        if photometric in ('loader', 'device'):
            photometric, where = None, photometric
        if photometric is None:
            photometric = 'moco_v2' if channels is None or recipe else 'levels'
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
        self.steps = build_steps(levels() if photometric == 'levels' else photometric, **recipe)
        self.where = where
        self.channels = 3 if channels is None else channels
        self.open = Opener('TwoViews', window, channels, max_pixels)
        for step in self.steps.values():
            if channels is not None and not getattr(step, 'any_channels', False):
                raise SettingsError(
                    f'TwoViews: channels={channels}, and the step {type(step).__name__} is for '
                    "8-bit RGB: leave photometric out for the recipe 'levels', or list steps such "
                    'as LevelJitter, GaussianBlur and GaussianNoise'
                )
            if channels is not None and where == 'device':
                raise SettingsError(
                    "TwoViews: where='device' is for 8-bit RGB: with channels= set where='loader'"
                )
            if where == 'device' and not runs_on_device(step):
                raise SettingsError(
                    f"TwoViews: where='device', and the step {type(step).__name__} has no "
                    "coefficients and on_device to run there: set where='loader', or add them"
                )

    def __call__(self, results: dict) -> dict:
        file = self.open(results)
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
        if 'area' in results:
            results['full_size'] = file.full_size
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
        shape = self.size, self.size, image.shape[2]
        # OpenCV drops a last axis of 1.
        pixels = aug.crop_and_resize(image, box, self.size).reshape(shape)
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
                    pixels = self._checked(step.apply(pixels, what), step, pixels)
        if flip:
            pixels = cv2.flip(pixels, 1).reshape(shape)
        left, top, w, h = box
        affine = crop_affine(left / width, top / height, w / width, h / height, flip)
        return View(pixels, affine, augmentation)

    def _checked(self, pixels: np.ndarray, step: Step, before: np.ndarray) -> np.ndarray:
        """Returns what a step returned, if it is an image of a view."""
        dtype, shape = before.dtype, before.shape
        if getattr(pixels, 'dtype', None) != dtype or pixels.shape != shape:
            raise SettingsError(
                f'TwoViews: {type(step).__name__}.apply must return a {shape} {dtype} image, got '
                f'{getattr(pixels, "shape", type(pixels).__name__)} '
                f'{getattr(pixels, "dtype", "")}: round, clip and cast, e.g. with '
                f'np.clip(values.round(), 0, 255).astype(np.{dtype})'
            )
        return pixels


def _scaled(box: aug.Box, x: float, y: float) -> aug.Box:
    """Turns a box into whole pixels of a reduced image. The geometry of a view is computed from
    these."""
    left, top, width, height = box
    right, bottom = round((left + width) * x), round((top + height) * y)
    left, top = min(round(left * x), right - 1), min(round(top * y), bottom - 1)
    return left, top, right - left, bottom - top
