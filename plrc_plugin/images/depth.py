"""Reads images of more than 8 bits a channel, and scales them all by one window."""

from collections.abc import Sequence
from io import BytesIO
from typing import Optional, Union

import cv2
import numpy as np
from PIL import Image

from plrc_plugin.errors import SettingsError
from plrc_plugin.images.orientation import upright

Window = Sequence[float]

TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
_BITS_PER_SAMPLE, _SAMPLE_FORMAT, _UNSIGNED = 258, 339, 1  # TIFF


def is_deep(image: Image.Image) -> bool:
    """Whether an opened file holds more than 8 unsigned bits a channel. Pillow would reduce these
    silently, or differently from image to image."""
    if image.format == 'TIFF':
        bits, kinds = (image.tag_v2.get(tag, 1) for tag in (_BITS_PER_SAMPLE, _SAMPLE_FORMAT))
        kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        return np.max(bits) > 8 or any(kind != _UNSIGNED for kind in kinds)
    deep_tiles = any(';16' in str(tile[3]) for tile in image.tile)
    return image.mode[0] in 'IF' or deep_tiles


def size_of_tiff(source: Union[str, bytes]) -> tuple[int, int]:
    """Reads (width, height) of a TIFF that Pillow does not know, with many bits, bands or
    planes."""
    import tifffile  # comes with scikit-image

    file = BytesIO(source) if isinstance(source, bytes) else source
    with tifffile.TiffFile(file) as file:
        page = file.pages[0]
        return page.imagewidth, page.imagelength


def check_window(window: Optional[Window]) -> None:
    """Raises SettingsError unless it is None or two numbers, the first below the second."""
    try:
        good = window is None or (len(window) == 2 and float(window[0]) < float(window[1]))
    except (TypeError, ValueError):
        good = False
    if not good:
        raise SettingsError(
            f'TwoViews: window must be two numbers (low, high) with low < high, got {window!r}'
        )


def read_deep(
    source: Union[str, bytes], window: Optional[Window], orientation: int = 1
) -> np.ndarray:
    """Reads the pixels of such a file, given its path or content, as (H, W, 3) uint8 RGB, upright.

    ``window[0]`` becomes 0 and ``window[1]`` becomes 255, in every image alike; values outside are
    clipped. Without a window, values below 256 stay as they are, and of 16 bits the upper 8 are
    taken. One channel becomes grey, and a fourth one is dropped.

    Raises:
        ValueError: without a window, if the values leave the upper two of 16 bits empty, so that
            most levels would be lost, or need more than 16; for another number of channels.
        Exception: of any type that its library raises for a damaged file.
    """
    values = _values(source)
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[2] not in (1, 3, 4):
        raise ValueError(
            f'it has the shape {values.shape}: images of 1 channel, or of 3 with or without alpha, '
            'can be used'
        )
    values = values[..., :3]
    if window is not None:
        pixels = _scaled(values, *window)
    elif _fits(values, 0, 2**8):
        pixels = values.astype(np.uint8)
    elif _fits(values, 2**14, 2**16):
        pixels = np.right_shift(
            values, values.dtype.type(8), out=np.empty(values.shape, np.uint8), casting='unsafe'
        )
    else:
        known = values[np.isfinite(values)] if values.dtype.kind == 'f' else values
        raise ValueError(
            f'it has more than 8 bits a channel ({values.dtype}) and values from '
            f'{known.min():g} to {known.max():g}: set window=(low, high) of TwoViews in '
            'train_dataloader.dataset.pipeline to the range that all images have in common'
        )
    pixels = upright(pixels, orientation)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _fits(values: np.ndarray, least: int, end: int) -> bool:
    """Whether all values are integers of at least 0, and the highest is in [least, end)."""
    return values.dtype.kind in 'iu' and values.min() >= 0 and least <= values.max() < end


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scales values to uint8, where 0 is ``low`` and 255 is ``high``."""
    if values.dtype.itemsize == 2 and values.dtype.kind in 'iu':  # a table takes little memory
        every = np.arange(2**16, dtype=np.uint16).view(values.dtype)
        return _scaled(every.astype(np.float64), low, high)[values.view(np.uint16)]
    with np.errstate(invalid='ignore'):
        scaled = (values.astype(np.float64) - low) / (high - low) * 255
    return np.nan_to_num(scaled).clip(0, 255).round().astype(np.uint8)


def _values(source: Union[str, bytes]) -> np.ndarray:
    """Reads the numbers of a file, (H, W) or (H, W, C)."""
    if _is_tiff(source):
        import tifffile  # comes with scikit-image

        file = BytesIO(source) if isinstance(source, bytes) else source
        with tifffile.TiffFile(file) as file:
            page = file.pages[0]
            values = page.asarray()
            by_planes = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
        return np.moveaxis(values, 0, -1) if by_planes and values.ndim == 3 else values
    if isinstance(source, bytes):
        content = np.frombuffer(source, dtype=np.uint8)
    else:
        content = np.fromfile(source, dtype=np.uint8)
    values = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError('truncated or damaged')
    return values[..., [2, 1, 0]] if values.ndim == 3 else values


def _is_tiff(source: Union[str, bytes]) -> bool:
    """Whether a file is a TIFF, by its first bytes alone."""
    if isinstance(source, bytes):
        return source[:4] in TIFF
    with open(source, 'rb') as file:
        return file.read(4) in TIFF
