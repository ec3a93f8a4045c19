"""The regions and points of a grid in one call, by numba: the numbers of :mod:`grid`."""

import numba  # of the extra 'speed'
import numpy as np


@numba.njit(cache=True)
def points_of_grid(
    n: int,
    affine: np.ndarray,
    centres: np.ndarray,
    region_draws: np.ndarray,
    point_draws: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`plrc_plugin.regions.grid.points_of_grid`."""
    regions = np.empty(region_draws.shape, np.int64)
    points = np.empty((*point_draws.shape, 2), np.float32)
    resolution = len(centres)
    labels, begins, sizes = np.empty((3, 2, resolution), np.int64)
    seen = np.zeros(2, np.int64)
    for view in range(len(affine)):
        for axis in range(2):
            seen[axis] = _runs(
                affine[view, axis, axis] * centres + affine[view, axis, 2],
                n,
                labels[axis],
                begins[axis],
                sizes[axis],
            )
        for i in range(regions.shape[1]):
            row, column = divmod(int(region_draws[view, i] * np.prod(seen)), seen[0])
            regions[view, i] = labels[1, row] * n + labels[0, column]
            cells = sizes[0, column] * sizes[1, row]
            for j in range(points.shape[2]):
                y, x = divmod(int(point_draws[view, i, j] * cells), sizes[0, column])
                place = points[view, i, j]
                place[0] = np.float32(x + begins[0, column] + 0.5) / np.float32(resolution)
                place[1] = np.float32(y + begins[1, row] + 0.5) / np.float32(resolution)
    return regions, points


@numba.njit(cache=True)
def _runs(
    along: np.ndarray, n: int, labels: np.ndarray, begins: np.ndarray, sizes: np.ndarray
) -> int:
    """Labels in rising order, where each begins and how often it stands; returns how many."""
    count, last, step = 0, len(along) - 1, 1
    if along[0] > along[last]:
        step = -1
    for i in range(last + 1):
        at = i if step > 0 else last - i
        label = min(int(along[at] * n), n - 1)
        if count == 0 or label != labels[count - 1]:
            labels[count], sizes[count], begins[count] = label, 0, at
            count += 1
        sizes[count - 1] += 1
        begins[count - 1] = min(begins[count - 1], at)
    return count
