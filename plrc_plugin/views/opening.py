"""How a pipeline step opens its images: 8-bit RGB, or rasters of declared channels."""

from typing import Optional, Union

import numpy as np

from plrc_plugin.errors import SettingsError, check_positive_integers
from plrc_plugin.images.decoding import ImageFile
from plrc_plugin.images.depth import check_window
from plrc_plugin.images.rasters.raster_file import RasterFile
from plrc_plugin.images.rasters.scaling import WINDOWS, Reading, Window
from plrc_plugin.images.stored import image_source


class Opener:
    """Opens the image of ``results`` (``img_path``, or ``stored`` for an image in a shard), or only
    its part ``results['area']`` if there is one.

    Args:
        owner: name of the step, for messages.
        window: the window of values, see :class:`~plrc_plugin.images.rasters.Reading`; without
            ``channels`` one pair, or None.
        channels: number of channels of the images; None for 8-bit RGB.
        max_pixels: most pixels that are decoded at once.

    Raises:
        SettingsError: if a setting cannot work.
    """

    def __init__(
        self,
        owner: str,
        window: Optional[Window] = None,
        channels: Optional[int] = None,
        max_pixels: Optional[int] = None,
    ):
        if max_pixels is not None:
            check_positive_integers(owner, max_pixels=max_pixels)
        self.window, self.max_pixels = window, max_pixels
        if channels is None:
            check_window(window)
            self.reading = None
        elif window is None:
            raise SettingsError(
                f'{owner}: channels={channels} needs a window of values: {WINDOWS} (docs/depth.md)'
            )
        else:
            self.reading = Reading.of(owner, channels, window, max_pixels)

    def __call__(self, results: dict) -> Union[ImageFile, RasterFile]:
        """Returns the opened image. Raises DecodingError if it cannot be read."""
        source, name = image_source(results)
        area = results.get('area')
        if self.reading is None and area is None:
            return ImageFile(source, self.window, self.max_pixels, name)
        reading = self.reading or Reading(max_pixels=self.max_pixels)
        return RasterFile(source, reading, area, name)

    def whole(self, results: dict, size_at_least: Optional[tuple[int, int]] = None) -> np.ndarray:
        """Returns all its pixels. A raster with smaller copies gives the smallest that is large
        enough."""
        file = self(results)
        if isinstance(file, ImageFile):
            return file.decode()
        return file.decode(size_at_least)[:, :]
