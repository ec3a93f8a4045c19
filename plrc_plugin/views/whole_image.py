"""Reads an image as it is, without augmentation."""

from typing import Optional

from plrc_plugin.errors import check_positive_integers
from plrc_plugin.images.rasters.scaling import Window
from plrc_plugin.registry import TRANSFORMS
from plrc_plugin.views.augmentation import resize
from plrc_plugin.views.opening import Opener


@TRANSFORMS.register_module()
class WholeImage:
    """Decodes the image of ``results`` and resizes it to a square, whatever its shape.

    Adds ``results['pixels']``, (size, size, 3) uint8 RGB, or (size, size, C) float32 in [0, 255]
    with ``channels``. Probes show these to a network.

    Args:
        size (int): side of the square in pixels. Defaults to 224.
        window, channels, max_pixels: as for :class:`~plrc_plugin.views.TwoViews`.

    Raises:
        SettingsError: if a setting cannot work.
    """

    def __init__(
        self,
        size: int = 224,
        window: Optional[Window] = None,
        channels: Optional[int] = None,
        max_pixels: Optional[int] = None,
    ):
        check_positive_integers('WholeImage', size=size)
        self.open = Opener('WholeImage', window, channels, max_pixels)
        self.size = size

    def __call__(self, results: dict) -> dict:
        square = (self.size, self.size)
        results['pixels'] = resize(self.open.whole(results, square), self.size)
        return results
