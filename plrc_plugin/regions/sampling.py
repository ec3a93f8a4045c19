"""Draws regions and points from label maps (Section 3.2)."""

from typing import Any, TypeVar, Union

import numpy as np
import torch
from torch import Tensor

from plrc_plugin.regions.source import VOID

Array = TypeVar('Array', Tensor, np.ndarray)  # the one or the other, throughout
Generator = Union[torch.Generator, np.random.Generator, None]


def region_map_of_view(
    label_map: Union[Tensor, np.ndarray], affine: Union[Tensor, np.ndarray], resolution: int
) -> Tensor:
    """Returns the region ids of a view's cells: the label of the original image under each cell's
    centre.

    Args:
        label_map (Tensor): (H, W) int, labels over the whole original image, negative = void. Any
            H x W: an n x n grid of regions is a map of n x n labels.
        affine (Tensor): (..., 2, 3), from positions in the view to positions in the image.
        resolution (int): R.

    Returns:
        Tensor: (..., R, R) int64, negative where void or outside the image.
    """
    # In numpy, because torch takes twice as long for operations this small.
    labels = np.ascontiguousarray(label_map)
    height, width = labels.shape
    matrix = np.moveaxis(np.asarray(affine, dtype=np.float64), (-2, -1), (0, 1))
    (a, b, c), (d, e, f) = matrix[..., None, None]
    across = centres_of_cells(resolution)
    down = across[:, None]
    x, y = a * across + c, e * down + f  # a crop: one row, one column
    if b.any() or d.any():
        x, y = x + b * down, y + d * across
    columns = np.minimum((x * width).astype(np.int64), width - 1)
    rows = np.minimum((y * height).astype(np.int64), height - 1)
    outside = (x < 0) | (x > 1) | (y < 0) | (y > 1)
    seen = labels.take(rows * width + columns, mode='clip').astype(np.int64)
    seen[outside] = VOID
    return torch.from_numpy(seen)


def centres_of_cells(resolution: int) -> np.ndarray:
    """The centres of the R cells of a side of a view, (R,). A centre on the border of two pixels of
    a label map belongs to the pixel to the right or below IN THE VIEW, as if picked from the
    cropped and flipped label image. Rounding must not decide."""
    return (np.arange(resolution) + 0.5) / resolution + 1e-9


def sample_region_points(
    region_map: Array,
    num_regions: int,
    points_per_region: int,
    generator: Generator = None,
) -> tuple[Array, Array]:
    """Draws regions of a view, and points of each region.

    N of the view's regions that are present and not void are drawn uniformly with repetition,
    whatever their sizes. Then P cells of each are drawn, uniformly with repetition among its cells.

    Args:
        region_map (Tensor | np.ndarray): (B, R, R) int, negative = void. For an array the results
            are arrays: with an image or two, torch's calls take twice as long as numpy's.
        num_regions (int): N.
        points_per_region (int): P.
        generator (torch.Generator | np.random.Generator, optional): source of randomness: torch's
            for a tensor, on its device, and numpy's for an array.

    Returns:
        tuple[Tensor, Tensor]: region ids, (B, N) int64, and points, (B, N, P, 2) float32, the
        (x, y) in [0, 1] of the drawn cells' centres. An image that is all void gets the id ``VOID``
        (-1) N times; its points have no meaning.

    Raises:
        ValueError: if N or P is not positive, or the map is not a batch of square integer maps.
    """
    if num_regions < 1 or points_per_region < 1:
        raise ValueError(
            'num_regions and points_per_region must be at least 1, got '
            f'{num_regions} and {points_per_region}'
        )
    if region_map.ndim != 3 or region_map.shape[1] != region_map.shape[2]:
        raise ValueError(f'region_map must be (B, R, R), got {tuple(region_map.shape)}')
    if 'float' in str(region_map.dtype):
        raise ValueError(f'region_map must hold integers, got {region_map.dtype}')
    # The rest is written once for tensors and arrays. No shape depends on values, because the host
    # would have to wait for the device to know it.
    xp = np if isinstance(region_map, np.ndarray) else torch
    batch, resolution, _ = region_map.shape

    # If cells are sorted by label, those of a region form one run. Runs are counted over the batch.
    # The void cells of an image come first and count as one run.
    labels, order = _sort(region_map.reshape(batch, resolution * resolution))
    begins = labels >= 0
    begins[:, 1:] &= labels[:, 1:] != labels[:, :-1]
    begins[:, 0] = True
    run = begins.reshape(-1).cumsum(0)
    of_image = run.reshape(begins.shape)
    lowest, highest = of_image[:, :1] + (labels[:, :1] < 0), of_image[:, -1:]

    drawn = lowest + draw_below(highest - lowest + 1, (batch, num_regions), generator)
    drawn = xp.minimum(drawn, highest)  # the void run, if there is no other
    first = xp.searchsorted(run, drawn)
    size = xp.searchsorted(run, drawn, side='right') - first
    regions = labels.reshape(-1)[first].clip(VOID)
    offset = draw_below(size[..., None], (batch, num_regions, points_per_region), generator)
    cells = order.reshape(-1)[first[..., None] + offset]
    points = xp.stack([cells % resolution, cells // resolution], -1)
    return regions, (xp.asarray(points, dtype=xp.float32) + 0.5) / resolution


def _sort(rows: Array) -> tuple[Array, Array]:
    """Sorts each row of (B, C) integers, and returns it with the index that each came from,
    int64."""
    if isinstance(rows, Tensor):
        return rows.long().sort(dim=1, stable=True)
    narrow = rows.astype(np.int16)  # NumPy sorts 16 bits by radix, and few ids need more
    order = (narrow if (narrow == rows).all() else rows).argsort(axis=1, kind='stable')
    in_batch = order + rows.shape[1] * np.arange(len(rows))[:, None]
    return rows.take(in_batch).astype(np.int64, copy=False), order


def draw_below(bound: Array, shape: tuple[int, ...], generator: Any) -> Array:
    """Draws uniform integers in [0, bound), with a generator of the same kind as the bound.

    A float32 below 1 has 24 bits. Multiplied by a bound of fewer bits, it never rounds up to the
    bound.
    """
    if isinstance(bound, Tensor):
        return (torch.rand(shape, generator=generator, device=bound.device) * bound).long()
    rng = generator or np.random.default_rng()
    return (rng.random(shape, dtype=np.float32) * bound).astype(np.int64)
