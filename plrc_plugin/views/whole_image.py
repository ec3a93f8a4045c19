"""An image as it is, without augmentation."""

from collections.abc import Sequence
from typing import Optional

import cv2

from plrc_plugin.errors import check_positive_integers
from plrc_plugin.images.decoding import open_image
from plrc_plugin.images.depth import check_window
from plrc_plugin.registry import TRANSFORMS


@TRANSFORMS.register_module()
class WholeImage:
    """Decodes ``results['img_path']`` and resizes it to a square, whatever its shape.

    Adds ``results['pixels']``, (size, size, 3) uint8 RGB: what probes show to a network.

    Args:
        size (int): side in pixels. Defaults to 224.
        window (Sequence[float], optional): as of :class:`~plrc_plugin.views.TwoViews`.

    Raises:
        SettingsError: if a setting cannot work.
    """

    def __init__(self, size: int = 224, window: Optional[Sequence[float]] = None):
        check_positive_integers('WholeImage', size=size)
        check_window(window)
        self.size, self.window = size, window

    def __call__(self, results: dict) -> dict:
        image = open_image(results, self.window).decode()
        square = (self.size, self.size)
        results['pixels'] = cv2.resize(image, square, interpolation=cv2.INTER_AREA)
        return results
