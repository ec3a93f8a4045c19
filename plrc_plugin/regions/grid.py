"""The paper's default regions: an n x n grid over the image (Section 3.2)."""

import numpy as np

from plrc_plugin.errors import SettingsError
from plrc_plugin.registry import REGIONS


@REGIONS.register_module()
class GridRegions:
    """n x n equal rectangles over the ORIGINAL image.

    A region source is a callable that takes an image record and returns the labels of the whole
    image, (H, W) integers, negative = void, at any resolution. This one needs n x n labels.

    Args:
        n (int): cells along each side. Defaults to 4.

    Raises:
        SettingsError: if n is not a positive integer.
    """

    def __init__(self, n: int = 4):
        if not isinstance(n, int) or n < 1:
            raise SettingsError(f'GridRegions: n must be a positive integer, got {n!r}')
        self._label_map = np.arange(n * n).reshape(n, n)

    def __call__(self, record: dict) -> np.ndarray:
        return self._label_map
