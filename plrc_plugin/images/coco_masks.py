"""Turns polygons, run lengths and boxes of COCO's annotations into masks of pixels."""

from typing import Callable

import cv2
import numpy as np

from plrc_plugin.images.decoding import ImageFile
from plrc_plugin.images.orientation import TRANSPOSED, upright

# OpenCV fills a polygon's outline too, which is thinner on pixels that are so many times finer.
_FINE = 5


def box_mask(box: list, height: int, width: int) -> np.ndarray:
    """Returns (H, W) bool, the pixels whose centres lie in a box (left, top, width, height)."""
    left, top, w, h = _finite(box)
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    return ((y >= top) & (y < top + h))[:, None] & ((x >= left) & (x < left + w))


def instance_mask(shape, height: int, width: int) -> np.ndarray:
    """Returns (H, W) bool, the mask of a list of polygons or of run lengths, compressed (text) or
    not (numbers)."""
    if isinstance(shape, list):
        mask = np.zeros((height, width), bool)
        for polygon in shape:
            if isinstance(polygon, dict):
                mask |= instance_mask(polygon, height, width)
                continue
            fill_polygon(mask, _finite(polygon).reshape(-1, 2))
        return mask
    if [int(side) for side in shape['size']] != [height, width]:
        raise ValueError(f'its run lengths are of size {shape["size"]}, not {[height, width]}')
    counts = shape['counts']
    counts = _decompressed(counts) if isinstance(counts, str) else counts
    if min(counts, default=0) < 0 or sum(counts) != height * width:
        raise ValueError(f'its run lengths do not add up to {height * width} pixels')
    values = np.arange(len(counts)) % 2 == 1
    return values.repeat(counts).reshape(width, height).T


def _finite(numbers: list) -> np.ndarray:
    numbers = np.array(numbers, float)
    if not np.isfinite(numbers).all():
        raise ValueError('a coordinate is not finite')
    return numbers


def masks_of(
    shapes: list, draw: Callable, size: tuple[int, int], file: ImageFile
) -> list[np.ndarray]:
    """Yields masks (H, W) bool over an image as it is seen, upright.

    Args:
        shapes: annotations that ``draw`` takes.
        draw: :func:`instance_mask` or :func:`box_mask`.
        size: (width, height) that the json states. If this is the size of the stored pixels of a
            photograph that EXIF turns, the annotations are in stored pixels, and the masks are
            turned too.
        file: the image.

    Raises:
        ValueError: if the image has another size.
    """
    stored = file.orientation in TRANSPOSED and tuple(size) == file.size[::-1] != file.size
    if not stored and tuple(size) != file.size:
        raise ValueError(f'it is {file.size[0]} x {file.size[1]} pixels')
    width, height = size
    masks = [draw(shape, height, width) for shape in shapes]
    return [upright(mask, file.orientation) for mask in masks] if stored else masks


def fill_polygon(mask: np.ndarray, corners: np.ndarray) -> None:
    """Sets the pixels of a mask (H, W) whose centres lie in a polygon, (K, 2) corners (x, y)."""
    first = np.floor(corners.min(0)).clip(0).astype(int)
    last = np.minimum(np.ceil(corners.max(0)).astype(int), mask.shape[::-1])
    if (last <= first).any():
        return
    fine = np.zeros((last - first)[::-1] * _FINE, np.uint8)
    # The centre of a pixel is at .5 in COCO's coordinates and at 0 in OpenCV's.
    cv2.fillPoly(fine, [np.round((corners - first) * _FINE - 0.5).astype(np.int32)], 1)
    centres = fine[_FINE // 2 :: _FINE, _FINE // 2 :: _FINE].astype(bool)
    mask[first[1] : last[1], first[0] : last[0]] |= centres


def _decompressed(text: str) -> list[int]:
    """Reads the runs of COCO's compressed form. pycocotools would read beyond the end of malformed
    text without an error.

    Each character holds five bits of a number, the lowest first, and whether more follow. From the
    fourth on, a number is the difference to the run two places before.
    """
    counts, value, bits = [], 0, 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise ValueError(f'its run lengths have the character {character!r}')
        value |= (code & 31) << bits
        bits += 5
        if not code & 32:
            value -= (code & 16) << (bits - 4)  # the sign of the number
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value, bits = 0, 0
    if bits:
        raise ValueError('its run lengths end within a number')
    return counts
