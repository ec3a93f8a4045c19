"""ColorJitter in one or two passes over the pixels, compiled by numba, with the same bytes as
augmentation's adjustments.

It computes in float32 with whole numbers and with factors of 12 bits. The results are exact, or far
from a tie of rounding, so that they depend neither on the order of operations nor on the processor.
"""

import cv2
import numba  # numba comes with the extra 'speed'
import numpy as np

_NAMES = ('brightness', 'contrast', 'saturation', 'hue')
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)
_BLOCK = 1024  # pixels in a block, whose float32 rows stay in the innermost cache
_0, _1, _2, _3, _4, _5, _6, _255 = map(np.float32, (0, 1, 2, 3, 4, 5, 6, 255))
# OpenCV's weights of luma, in units of 1 / 2^15, and its 256 steps of hue to a turn, in units of 1
# / 2^12 of a step.
_RED, _GREEN, _BLUE, _HALF, _UNIT = map(np.float32, (9798, 19235, 3735, 2**14, 2**-15))
_SIXTH, _HUE_HALF, _HUE_UNIT = map(np.float32, (2**20 / 6, 2**11, 2**-12))
_SIXTHS_OF_STEP, _OF_6, _OF_255 = map(np.float32, (6 / 256, 1 / 6, 1 / 255))


def color_jitter(image: np.ndarray, jitter: list[tuple[str, float]]) -> np.ndarray:
    """Does the adjustments in their order to an (H, W, 3) uint8 RGB image.

    Args:
        image (np.ndarray): (H, W, 3) uint8 RGB.
        jitter: names and amounts of the adjustments: factors in units of 1 / 4096, and the turn of
            the hue in steps.
    """
    kinds = np.array([_NAMES.index(name) for name, _ in jitter], dtype=np.int64)
    amounts = np.array([amount for _, amount in jitter], dtype=np.float32)
    planes = cv2.split(image)
    _adjust(*(plane.reshape(-1) for plane in planes), kinds, amounts)
    return cv2.merge(planes)


@numba.njit(cache=True)
def _adjust(red, green, blue, kinds, amounts):
    begin, mean = 0, _0
    for end in range(len(kinds) + 1):
        # A contrast needs the mean of the result of the steps before it.
        if end == len(kinds) or kinds[end] == _CONTRAST:
            mean = _steps(red, green, blue, kinds[begin:end], amounts[begin:end], mean)
            begin = end


@numba.njit(cache=True)
def _steps(red, green, blue, kinds, amounts, mean):
    """Does some steps to the planes, in place, and returns the rounded mean of their luma."""
    rows, total = np.zeros((4, _BLOCK), np.float32), 0
    r, g, b, grey = rows[0], rows[1], rows[2], rows[3]
    for at in range(0, len(red), _BLOCK):
        end = min(at + _BLOCK, len(red))
        _load(red[at:end], r)
        _load(green[at:end], g)
        _load(blue[at:end], b)
        for k in range(len(kinds)):
            if kinds[k] == _HUE:
                _turn(r, g, b, amounts[k])
                continue
            if kinds[k] == _SATURATION:
                _luma(r, g, b, grey)
            else:
                grey[:] = mean if kinds[k] == _CONTRAST else _0
            _blend(r, grey, amounts[k])
            _blend(g, grey, amounts[k])
            _blend(b, grey, amounts[k])
        _store(r, red[at:end])
        _store(g, green[at:end])
        _store(b, blue[at:end])
        _luma(r, g, b, grey)
        total += _sum(grey, end - at)
    return np.float32(np.rint(total / len(red)))


@numba.njit(cache=True)
def _load(plane, row):
    for i in range(len(plane)):
        row[i] = plane[i]


@numba.njit(cache=True)
def _store(row, plane):
    for i in range(len(plane)):
        plane[i] = np.int32(row[i])


@numba.njit(cache=True)
def _sum(row, count):
    total = np.int32(0)
    for i in range(count):
        total += np.int32(row[i])
    return total


@numba.njit(cache=True)
def _blend(row, grey, factor):
    rest = _1 - factor
    for i in range(len(row)):
        row[i] = min(max(np.rint(factor * row[i] + rest * grey[i]), _0), _255)


@numba.njit(cache=True)
def _luma(red, green, blue, grey):
    for i in range(len(red)):
        weighted = _RED * red[i] + _GREEN * green[i] + _BLUE * blue[i] + _HALF
        grey[i] = np.floor(weighted * _UNIT)


@numba.njit(cache=True)
def _turn(red, green, blue, steps):
    for i in range(len(red)):
        r, g, b = red[i], green[i], blue[i]
        value = max(max(r, g), b)
        spread = value - min(min(r, g), b)
        other = b - r + _2 * spread if value == g else r - g + _4 * spread
        sixths = g - b if value == r else other
        step = np.rint(_SIXTH / max(spread, _1))
        hue = np.floor((sixths * step + _HUE_HALF) * _HUE_UNIT) + steps
        sixths = hue * _SIXTHS_OF_STEP
        red[i] = value - _fade(spread, sixths + _5)
        green[i] = value - _fade(spread, sixths + _3)
        blue[i] = value - _fade(spread, sixths + _1)


@numba.njit(cache=True)
def _fade(spread, x):
    """How much darker than the brightest channel a channel is, at x sixths of a turn from its own
    hue."""
    x -= _6 * np.floor(x * _OF_6)
    share = np.rint(_255 * min(max(min(x, _4 - x), _0), _1))
    return np.rint(spread * share * _OF_255)
