"""ColorJitter in one or two passes over the pixels, compiled by numba, with the same bytes as
augmentation's adjustments.

It computes in float32 with whole numbers and with factors of 12 bits. The results are exact, or far
from a tie of rounding, so that they depend neither on the order of operations nor on the processor.
"""

import numba  # of the extra 'speed'
import numpy as np

_NAMES = ('brightness', 'contrast', 'saturation', 'hue')
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)
_BLOCK = 1024  # pixels: their rows of float32 stay in the innermost cache
_0, _1, _2, _3, _4, _6, _255 = map(np.float32, (0, 1, 2, 3, 4, 6, 255))
# OpenCV's weights of luma, in 1 / 2^15, and its 256 steps of hue a turn, in 1 / 2^12 of a step.
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
    done = np.empty(image.shape, dtype=np.uint8)
    _adjust(image.reshape(-1), done.reshape(-1), kinds, amounts)
    return done


@numba.njit(cache=True)
def _adjust(pixels, done, kinds, amounts):
    begin, mean = 0, _0
    for end in range(len(kinds) + 1):
        # A contrast needs the mean of the result of the steps before it.
        if end == len(kinds) or kinds[end] == _CONTRAST:
            steps = kinds[begin:end], amounts[begin:end]
            mean = _steps(pixels, done, steps, mean, end < len(kinds))
            begin, pixels = end, done


@numba.njit(cache=True)
def _steps(pixels, done, steps, mean, wants_mean):
    """Does some steps, and returns the rounded mean of the luma after them."""
    rows, total = np.empty((3, _BLOCK), np.float32), 0
    for at in range(0, len(pixels), 3 * _BLOCK):
        block = pixels[at : at + 3 * _BLOCK]
        r, g, b = rows[0, : len(block) // 3], rows[1, : len(block) // 3], rows[2, : len(block) // 3]
        _load(block, r, g, b)
        for kind, amount in zip(*steps):
            if kind == _HUE:
                _turn(r, g, b, amount)
            elif kind == _SATURATION:
                _saturate(r, g, b, amount)
            else:
                offset = (_1 - amount) * mean if kind == _CONTRAST else _0
                for row in (r, g, b):
                    _scale(row, amount, offset)
        _store(r, g, b, done[at : at + 3 * _BLOCK])
        if wants_mean:
            total += _sum_of_luma(r, g, b)
    return np.float32(np.rint(3 * total / len(pixels)))


@numba.njit(cache=True)
def _load(block, red, green, blue):
    for i in range(len(red)):
        red[i], green[i], blue[i] = block[3 * i], block[3 * i + 1], block[3 * i + 2]


@numba.njit(cache=True)
def _store(red, green, blue, block):
    for i in range(len(red)):
        block[3 * i] = np.int32(red[i])
        block[3 * i + 1] = np.int32(green[i])
        block[3 * i + 2] = np.int32(blue[i])


@numba.njit(cache=True)
def _sum_of_luma(red, green, blue):
    total = np.int32(0)
    for i in range(len(red)):
        total += np.int32(_luma(red[i], green[i], blue[i]))
    return total


@numba.njit(cache=True)
def _luma(red, green, blue):
    return np.floor((_RED * red + _GREEN * green + _BLUE * blue + _HALF) * _UNIT)


@numba.njit(cache=True)
def _level(value):
    return min(max(np.rint(value), _0), _255)


@numba.njit(cache=True)
def _scale(row, factor, offset):
    for i in range(len(row)):
        row[i] = _level(factor * row[i] + offset)


@numba.njit(cache=True)
def _saturate(red, green, blue, factor):
    for i in range(len(red)):
        grey = (_1 - factor) * _luma(red[i], green[i], blue[i])
        red[i] = _level(factor * red[i] + grey)
        green[i] = _level(factor * green[i] + grey)
        blue[i] = _level(factor * blue[i] + grey)


@numba.njit(cache=True)
def _turn(red, green, blue, steps):
    for i in range(len(red)):
        r, g, b = red[i], green[i], blue[i]
        value = max(max(r, g), b)
        spread = value - min(min(r, g), b)
        other = b - r + _2 * spread if value == g else r - g + _4 * spread
        sixths = g - b if value == r else other
        step = np.rint(_SIXTH / max(spread, _1))
        hue = (np.floor((sixths * step + _HUE_HALF) * _HUE_UNIT) + steps) * _SIXTHS_OF_STEP
        hue -= _6 * np.floor(hue * _OF_6)
        # How much darker than the brightest channel each is.
        red[i] = value - _fade(spread, _2 - abs(hue - _3))
        green[i] = value - _fade(spread, abs(hue - _2) - _1)
        blue[i] = value - _fade(spread, abs(hue - _4) - _1)


@numba.njit(cache=True)
def _fade(spread, share):
    return np.rint(spread * np.rint(_255 * min(max(share, _0), _1)) * _OF_255)
