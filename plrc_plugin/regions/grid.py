"""The paper's default regions: an n x n grid over the image (Section 3.2)."""

from typing import Optional

import numpy as np

from plrc_plugin.errors import SettingsError
from plrc_plugin.regions.sampling import centres_of_cells, draw_below
from plrc_plugin.registry import REGIONS


@REGIONS.register_module()
class GridRegions:
    """Divides the ORIGINAL image into n x n equal rectangles.

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
        self.n = n
        self._label_map = np.arange(n * n).reshape(n, n)

    def __call__(self, record: dict) -> np.ndarray:
        return self._label_map


def sample_grid_points(
    n: int,
    affine: np.ndarray,
    resolution: int,
    num_regions: int,
    points_per_region: int,
    generator: np.random.Generator,
) -> Optional[tuple[np.ndarray, np.ndarray]]:
    """Draws regions and points of B views under an n x n grid. The result is what
    ``sample_region_points`` draws from the views' region maps, but no maps are made.

    A crop sees each region as a rectangle of cells, so that counting rows and columns gives the
    sizes of all regions.

    Args:
        n (int): cells of the grid along each side of the image.
        affine (np.ndarray): (B, 2, 3), from positions in the view to positions in the image.
        resolution, num_regions, points_per_region, generator: as for ``sample_region_points``.

    Returns:
        tuple[np.ndarray, np.ndarray], optional: (B, N) int64 and (B, N, P, 2) float32. None if a
        view is turned or leaves the image, and so needs its map.
    """
    # The positions of the columns and the rows of each view in the image, (B, 2, R).
    along = affine[:, [0, 1], [0, 1], None] * centres_of_cells(resolution) + affine[:, :, 2:]
    if affine[:, [0, 1], [1, 0]].any() or along.min() < 0 or along.max() > 1:
        return None
    lines = np.minimum((along * n).astype(np.int64), n - 1)
    columns, rows = ([_runs(line) for line in lines[:, axis].tolist()] for axis in (0, 1))
    counts = np.array([len(x[0]) * len(y[0]) for x, y in zip(columns, rows)])
    drawn = draw_below(counts[:, None], (len(counts), num_regions), generator)
    # For each drawn region, by axis: its place in the grid, its first cell, and its number of
    # cells.
    across = np.stack([x[:, i % x.shape[1]] for x, i in zip(columns, drawn)], 1)
    down = np.stack([y[:, i // x.shape[1]] for x, y, i in zip(columns, rows, drawn)], 1)
    shape = *drawn.shape, points_per_region
    offset = draw_below((across[2] * down[2])[..., None], shape, generator)
    row, column = np.divmod(offset, across[2][..., None])
    points = np.empty((*shape, 2), np.float32)
    points[..., 0], points[..., 1] = column + across[1][..., None], row + down[1][..., None]
    return down[0] * n + across[0], (points + 0.5) / resolution


def _runs(line: list[int]) -> np.ndarray:
    """For a rising or falling line of labels: each label, where it begins, and how often it occurs,
    (3, K), in rising order."""
    runs, begin = [], 0
    for end in range(1, len(line) + 1):
        if end == len(line) or line[end] != line[begin]:
            runs.append((line[begin], begin, end - begin))
            begin = end
    return np.array(sorted(runs)).T
