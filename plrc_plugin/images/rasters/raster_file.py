"""An opened image of any depth, as a canvas that reads only the parts that are asked for."""

from collections.abc import Sequence
from typing import Optional

import numpy as np

from plrc_plugin.images.decoding import DecodingError
from plrc_plugin.images.rasters.opening import open_raster
from plrc_plugin.images.rasters.raster import MAX_PIXELS, Box, Raster, Source
from plrc_plugin.images.rasters.scaling import RGB, Reading, fit_channels, scale


class RasterFile:
    """Does for any depth what :class:`~plrc_plugin.images.decoding.ImageFile` does for 8-bit RGB.

    Args:
        source: a path, or the content of a file.
        reading: channels and windows. Defaults to 8-bit RGB, which stays uint8.
        area: the part (left, top, width, height) that counts as the image. Defaults to the whole.
        name: the name of a content without a path, for messages.

    Attributes:
        size: (width, height) of the area.
        full_size: (width, height) of the whole image.
        orientation: EXIF's orientation; 1 if the pixels are stored upright.

    Raises:
        DecodingError: if the file cannot be read, or has other channels than declared.
    """

    def __init__(
        self,
        source: Source,
        reading: Reading = RGB,
        area: Optional[Box] = None,
        name: str = '',
    ):
        self.path = name or ('' if isinstance(source, bytes) else str(source))
        self._reading = reading
        try:
            self._raster = raster = open_raster(source, reading.max_pixels, self.path)
            self._taken = fit_channels(raster, reading.channels)
            if reading.windows is None and raster.dtype != np.uint8 and raster.kind != 'HEIF':
                raise ValueError(
                    f'it has more than 8 bits a channel ({raster.dtype}): set channels=3 and '
                    'window of TwoViews'
                )
            full = raster.size
            self.area = area or (0, 0, *full)
            left, top, width, height = self.area
            if min(left, top) < 0 or left + width > full[0] or top + height > full[1]:
                raise ValueError(f'it is {full[0]} x {full[1]} pixels now: it has changed')
        except Exception as error:
            raise DecodingError(self.path, error) from error
        self.size, self.full_size = self.area[2:], full
        self.orientation = raster.orientation

    def decode(self, size_at_least: Optional[Sequence[float]] = None) -> 'Canvas':
        """Returns the smallest canvas that is large enough, by default the full one.

        Args:
            size_at_least: (width, height) of the area that is large enough.
        """
        full, level = self._raster.size, 0
        if size_at_least is not None:
            needed = [
                least / side * whole for least, side, whole in zip(size_at_least, self.size, full)
            ]
            fitting = [
                n
                for n, (width, height) in enumerate(self._raster.levels)
                if width >= needed[0] and height >= needed[1]
            ]
            level = fitting[-1] if fitting else 0
        return Canvas(self, self._raster, self._taken, self._reading, level)


class Canvas:
    """Stands for an array (H, W, C), of which only slices of rows and columns can be taken.

    A slice is float32 in [0, 255], or uint8 if no windows are declared.
    """

    def __init__(
        self,
        file: RasterFile,
        raster: Raster,
        taken: list[int],
        reading: Reading,
        level: int,
    ):
        self._file, self._raster, self._taken, self._reading = file, raster, taken, reading
        self._level = level
        width, height = raster.levels[level]
        x, y = width / raster.size[0], height / raster.size[1]
        left, top, wide, high = file.area
        self._left, self._top = min(round(left * x), width - 1), min(round(top * y), height - 1)
        right, bottom = round((left + wide) * x), round((top + high) * y)
        self.shape = (
            max(1, min(bottom, height) - self._top),
            max(1, min(right, width) - self._left),
            len(taken),
        )

    def __getitem__(self, slices: tuple[slice, slice]) -> np.ndarray:
        (top, bottom, _), (left, right, _) = (
            part.indices(side) for part, side in zip(slices, self.shape)
        )
        box = (self._left + left, self._top + top, right - left, bottom - top)
        limit = self._reading.max_pixels or MAX_PIXELS
        try:
            if box[2] * box[3] > limit:
                raise ValueError(
                    f'a part of {box[2]} x {box[3]} pixels is more than the {limit:,} that are '
                    'decoded at once: set max_pixels, put plrc_plugin.ImageWindows around the data '
                    'set, or save smaller copies in the file (gdaladdo)'
                )
            values = self._raster.read(box, self._level)
            if self._taken != list(range(values.shape[2])):
                values = values[..., self._taken]
            if self._reading.windows is None:
                if values.dtype != np.uint8:  # a photograph of 10 or 12 bits, see HeifRaster
                    values = (values >> 8).astype(np.uint8)
                if self._raster.inverted:
                    values = 255 - values
                return np.ascontiguousarray(values)
            return scale(values, self._raster, self._reading.windows)
        except Exception as error:
            raise DecodingError(self._file.path, error) from error
