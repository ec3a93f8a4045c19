"""Turns pixels by EXIF's eight orientations, which tell how a camera was held."""

import numpy as np

_UPRIGHT = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x.swapaxes(0, 1)[::-1],
}
EXIF_TAG = 0x0112
TRANSPOSED = (5, 6, 7, 8)  # orientations that exchange width and height


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns stored pixels (H, W, ...) upright. The result is a view of them."""
    return _UPRIGHT[orientation](pixels) if orientation in _UPRIGHT else pixels
