"""How a camera was held: EXIF's eight orientations."""

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
TRANSPOSED = (5, 6, 7, 8)  # exchange width and height


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels (H, W, ...) as stored, turned as they are meant to be seen. A view of them."""
    return _UPRIGHT[orientation](pixels) if orientation in _UPRIGHT else pixels
