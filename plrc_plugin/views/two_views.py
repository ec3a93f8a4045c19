"""Two augmented views of an image, and where they lie in it (Section 4.1: MoCo v2's recipe)."""

from collections.abc import Sequence
from typing import NamedTuple, Optional

import cv2
import numpy as np

from plrc_plugin.errors import SettingsError, check_shares
from plrc_plugin.images.decoding import ImageFile
from plrc_plugin.randomness import stream
from plrc_plugin.registry import TRANSFORMS
from plrc_plugin.views import augmentation as aug
from plrc_plugin.views.device_augmentation import DeviceAugmentation, for_device
from plrc_plugin.views.geometry import crop_affine

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
    """Decodes ``results['img_path']`` once and makes its query and key views.

    Augmentation is a function of ``results['sample_key']`` and the view: neither the worker nor
    what was drawn before matters.

    Args:
        size (int): side of a view in pixels. Defaults to 224.
        scale (Sequence[float]): area of a crop as share of the image. Defaults to (0.2, 1).
        ratio (Sequence[float]): range of aspect ratios. Defaults to (3/4, 4/3).
        jitter (Sequence[float]): strengths of brightness, contrast, saturation and hue.
        jitter_prob (float): defaults to 0.8.
        grey_prob (float): defaults to 0.2.
        blur_sigma (Sequence[float]): range, in pixels of the view. Defaults to (0.1, 2).
        blur_prob (float): defaults to 0.5.
        flip_prob (float): defaults to 0.5.
        photometric (str): where jitter, greyscale and blur are done, here, ``'loader'``, or by the
            model's ``ViewsPreprocessor`` on its ``'device'``, where the loader is too slow for it.
            What is drawn is the same. Defaults to 'loader'.

    Adds ``results['views']``, a list of two :class:`View`, query first, and ``results['size']``,
    the image's (width, height).

    Raises:
        SettingsError: if a setting cannot work.
    """

    def __init__(
        self,
        size: int = 224,
        scale: Sequence[float] = (0.2, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        jitter: Sequence[float] = (0.4, 0.4, 0.4, 0.1),
        jitter_prob: float = 0.8,
        grey_prob: float = 0.2,
        blur_sigma: Sequence[float] = (0.1, 2.0),
        blur_prob: float = 0.5,
        flip_prob: float = 0.5,
        photometric: str = 'loader',
    ):
        if not isinstance(size, int) or size < 1:
            raise SettingsError(f'TwoViews: size must be a positive integer, got {size!r}')
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise SettingsError(f'TwoViews: scale must be 0 < low <= high <= 1, got {scale!r}')
        if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1]:
            raise SettingsError(f'TwoViews: ratio must be 0 < low <= high, got {ratio!r}')
        if len(jitter) != 4 or min(jitter) < 0 or jitter[3] > 0.5:
            raise SettingsError(
                'TwoViews: jitter must be four strengths (brightness, contrast, '
                f'saturation, hue <= 0.5), none negative, got {jitter!r}'
            )
        if len(blur_sigma) != 2 or not 0 < blur_sigma[0] <= blur_sigma[1]:
            raise SettingsError(f'TwoViews: blur_sigma must be 0 < low <= high, got {blur_sigma!r}')
        check_shares(
            'TwoViews',
            jitter_prob=jitter_prob,
            grey_prob=grey_prob,
            blur_prob=blur_prob,
            flip_prob=flip_prob,
        )
        if photometric not in ('loader', 'device'):
            raise SettingsError(
                f"TwoViews: photometric must be 'loader' or 'device', got {photometric!r}"
            )
        self.size = size
        self.scale, self.ratio = scale, ratio
        self.jitter, self.jitter_prob = jitter, jitter_prob
        self.grey_prob = grey_prob
        self.blur_sigma, self.blur_prob = blur_sigma, blur_prob
        self.flip_prob = flip_prob
        self.photometric = photometric

    def __call__(self, results: dict) -> dict:
        file = ImageFile(results['img_path'])
        rngs = [stream(results['sample_key'], 'view', v) for v in range(2)]
        boxes = [aug.random_crop_box(rng, *file.size, self.scale, self.ratio) for rng in rngs]
        # The smallest image whose crops still fill a view.
        image = file.decode(
            size_at_least=[
                max(self.size * full / box[side] for box in boxes)
                for full, side in zip(file.size, (2, 3))
            ]
        )
        results['size'] = file.size
        results['views'] = [self._view(rng, image, box, file.size) for rng, box in zip(rngs, boxes)]
        return results

    def _view(
        self, rng: np.random.Generator, image: np.ndarray, box: aug.Box, full_size: Sequence[int]
    ) -> View:
        height, width = image.shape[:2]
        if (width, height) != tuple(full_size):
            box = _scaled(box, width / full_size[0], height / full_size[1])
        drawn = self._draw_photometric(rng)
        flip = bool(rng.random() < self.flip_prob)
        pixels = aug.crop_and_resize(image, box, self.size)
        augmentation = None
        if self.photometric == 'device':
            augmentation = for_device(drawn, self.blur_sigma[1])
        else:
            pixels = aug.apply(pixels, drawn)
        if flip:
            pixels = cv2.flip(pixels, 1)
        left, top, w, h = box
        affine = crop_affine(left / width, top / height, w / width, h / height, flip)
        return View(pixels, affine, augmentation)

    def _draw_photometric(self, rng: np.random.Generator) -> aug.Photometric:
        return aug.Photometric(
            jitter=(aug.draw_jitter(rng, *self.jitter) if rng.random() < self.jitter_prob else []),
            grey=bool(rng.random() < self.grey_prob),
            blur_sigma=rng.uniform(*self.blur_sigma) if rng.random() < self.blur_prob else 0,
        )


def _scaled(box: aug.Box, x: float, y: float) -> aug.Box:
    """The box in whole pixels of a reduced image; a view's geometry is then that of these."""
    left, top, width, height = box
    right, bottom = round((left + width) * x), round((top + height) * y)
    left, top = min(round(left * x), right - 1), min(round(top * y), bottom - 1)
    return left, top, right - left, bottom - top
