"""The paper's default regions: an n x n grid over the image (Section 3.2)."""

from typing import Optional

import numpy as np

from plrc_plugin.errors import SettingsError
from plrc_plugin.regions.sampling import centres_of_cells
from plrc_plugin.registry import REGIONS

try:
    from plrc_plugin.regions import compiled_grid
except ImportError:  # without numba, of the extra 'speed'
    compiled_grid = None  # type: ignore[assignment]

_AXES = np.array([0, 1])  # along a row of cells, and along a column


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
    centres = centres_of_cells(resolution)
    for matrix in affine.tolist():
        for axis in (0, 1):
            ends = [matrix[axis][axis] * end + matrix[axis][2] for end in (centres[0], centres[-1])]
            if matrix[axis][1 - axis] or min(ends) < 0 or max(ends) > 1:
                return None
    shape = len(affine), num_regions, points_per_region
    draws = [generator.random(shape[:dims], dtype=np.float32) for dims in (2, 3)]
    of_draws = points_of_grid if compiled_grid is None else compiled_grid.points_of_grid
    return of_draws(n, affine, centres, *draws)


def points_of_grid(
    n: int,
    affine: np.ndarray,
    centres: np.ndarray,
    region_draws: np.ndarray,
    point_draws: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """What :func:`sample_grid_points` returns, of draws in [0, 1): (B, N) and (B, N, P) float32.
    The R ``centres`` are those of the cells along a side of a view."""
    # Where the columns and the rows of each view are in the image: (B, 2, R).
    along = affine[:, _AXES, _AXES, None] * centres + affine[:, :, 2:]
    lines = np.minimum((along * n).astype(np.int64), n - 1)
    # How many columns, or rows, of each view show a label, the first of them, and the labels that
    # are seen before the others: (B, 2, n).
    views = np.arange(len(affine))[:, None, None]
    line = 2 * views + _AXES[:, None]
    counts = np.bincount((lines + n * line).ravel(), minlength=line.size * n).reshape(-1, 2, n)
    ends = counts.cumsum(2)
    begins = np.where(along[..., :1] <= along[..., -1:], ends - counts, len(centres) - ends)
    labels, seen = (counts == 0).argsort(2, kind='stable'), (counts > 0).sum(2, keepdims=True)

    drawn = (region_draws * seen.prod(1)).astype(np.int64)
    of_seen = np.stack([drawn % seen[:, 0], drawn // seen[:, 0]], 1)
    labels = labels[views, _AXES[:, None], of_seen]  # of column and row: (B, 2, N)
    first, size = (of_label[views, _AXES[:, None], labels] for of_label in (begins, counts))
    offset = (point_draws * size.prod(1)[..., None]).astype(np.int64)
    points = np.empty((*offset.shape, 2), np.float32)
    points[..., 1], points[..., 0] = np.divmod(offset, size[:, 0, :, None])
    points += first.transpose(0, 2, 1)[:, :, None] + 0.5
    return labels[:, 1] * n + labels[:, 0], points / np.float32(len(centres))
