"""The base of all formats: reads the stored numbers of an image, as a whole or in parts."""

import os
from abc import abstractmethod
from typing import Optional, Union

import numpy as np

from plrc_plugin.images.orientation import TRANSPOSED, upright

Source = Union[str, os.PathLike, bytes]
Box = tuple[int, int, int, int]

# Most pixels that are decoded at once. It is the number at which Pillow takes a file for a
# decompression bomb.
MAX_PIXELS = 178_956_970


class Raster:
    """An opened image; a sub-class reads one format.

    Attributes:
        size: upright (width, height) in pixels.
        levels: upright sizes at which it can be read, the full one first, then smaller ones.
        channels: number of channels, with alpha.
        alpha: how many of them, the last ones, are alpha.
        dtype: type of the array that :meth:`read` returns.
        limits: lowest and highest value that the format can hold; None for floats.
        inverted: whether the lowest value is white.
        nodata: the value of pixels that were not measured, if there is one.
        stated_window: the window of values that the file asks viewers to show, if it has one.
        kind: name of the format.
        windowed: whether parts can be read without the whole.
    """

    kind = ''
    windowed = False
    alpha = 0
    inverted = False
    nodata: Optional[float] = None
    stated_window: Optional[tuple[float, float]] = None
    orientation = 1

    size: tuple[int, int]
    levels: list[tuple[int, int]]
    channels: int
    dtype: np.dtype
    limits: Optional[tuple[float, float]]

    def set_sizes(self, stored: list[tuple[int, int]]) -> None:
        """Sets ``levels`` and ``size`` from (width, height) in stored pixels."""
        turned = self.orientation in TRANSPOSED
        self.levels = [(h, w) if turned else (w, h) for w, h in stored]
        self.size = self.levels[0]

    def read(self, box: Optional[Box] = None, level: int = 0) -> np.ndarray:
        """Reads the numbers of a box (left, top, width, height) in upright pixels of a level.

        Returns:
            np.ndarray: (height, width, channels) of ``dtype``. It may be a view of an array that is
                kept, so do not write to it.

        Raises:
            Exception: of any type that the library raises for damaged data.
        """
        if self.orientation == 1:
            return self.read_stored(box or (0, 0, *self.levels[level]), level)
        width, height = self.levels[level]
        stored = (height, width) if self.orientation in TRANSPOSED else (width, height)
        pixels = upright(self.read_stored((0, 0, *stored), level), self.orientation)
        left, top, width, height = box or (0, 0, width, height)
        return pixels[top : top + height, left : left + width]

    @abstractmethod
    def read_stored(self, box: Box, level: int) -> np.ndarray:
        """Does what :meth:`read` does, in the orientation of the stored pixels."""

    def __str__(self) -> str:
        return f'{self.kind}, {self.channels} x {self.dtype}'


def limits_of(dtype: np.dtype, bits: Optional[int] = None) -> Optional[tuple[float, float]]:
    """Returns the lowest and highest value of a type, or of so many bits of it; None for floats."""
    if dtype.kind == 'b':
        return 0, 1
    if dtype.kind not in 'iu':
        return None
    bits = bits or dtype.itemsize * 8
    return (0, 2**bits - 1) if dtype.kind == 'u' else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
