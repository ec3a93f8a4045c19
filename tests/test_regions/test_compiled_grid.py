"""The points of a grid that numba compiles are those that numpy computes."""

import numpy as np
import pytest

from plrc_plugin.regions import grid
from plrc_plugin.views.geometry import crop_affine

pytest.importorskip('numba')  # extra 'speed', 'tests'


@pytest.mark.parametrize('seed', range(40))
def test_same_regions_and_points(monkeypatch, seed):
    """Of crops of any size, mirrored or not, down to fewer cells than labels."""
    rng = np.random.default_rng(seed)
    n, resolution, regions, points = rng.integers(1, [80, 70, 20, 20]).tolist()
    sides = rng.uniform(0.02, 1, (3, 2))
    corners = rng.random((3, 2)) * (1 - sides)
    flips = rng.random(3) < 0.5
    affine = np.stack([crop_affine(*at, *of, flip) for at, of, flip in zip(corners, sides, flips)])

    def drawn():
        again = np.random.default_rng(seed)
        return grid.sample_grid_points(n, affine, resolution, regions, points, again)

    assert grid.compiled_grid is not None
    compiled = drawn()
    monkeypatch.setattr(grid, 'compiled_grid', None)
    for got, expected in zip(compiled, drawn()):
        assert got.dtype == expected.dtype and np.array_equal(got, expected)
