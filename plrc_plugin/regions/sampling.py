"""From label maps to regions and points (Section 3.2)."""
from typing import Optional, Tuple

import numpy as np
import torch
from torch import Tensor

VOID = -1


def region_map_of_view(label_map: Tensor, affine: Tensor, resolution: int) -> Tensor:
    """Region ids of a view's cells: the label of the original image under each cell's centre.

    Args:
        label_map (Tensor): (H, W) int, labels over the whole original image, negative = void. Any
            H x W: an n x n grid of regions is a map of n x n labels.
        affine (Tensor): (..., 2, 3), from positions in the view to positions in the image.
        resolution (int): R.

    Returns:
        Tensor: (..., R, R) int64, negative where void or outside the image.
    """
    # In numpy, as torch takes twice as long for operations this small.
    labels = np.asarray(label_map)
    height, width = labels.shape
    affine = np.asarray(affine, dtype=np.float64)
    (a, b, c), (d, e, f) = np.moveaxis(affine, (-2, -1), (0, 1))[..., None, None]
    # A centre on the border of two pixels belongs to the one right of it, or below, IN THE VIEW, as
    # when picking from the cropped and flipped label image; rounding must not decide.
    across = (np.arange(resolution) + 0.5) / resolution + 1e-9
    down = across[:, None]
    x, y = a * across + b * down + c, d * across + e * down + f
    columns = (x * width).astype(np.int64).clip(0, width - 1)
    rows = (y * height).astype(np.int64).clip(0, height - 1)
    outside = (x < 0) | (x > 1) | (y < 0) | (y > 1)
    seen = labels[rows, columns].astype(np.int64)
    return torch.from_numpy(np.where(outside, VOID, seen))


def sample_region_points(region_map: Tensor, num_regions: int, points_per_region: int,
                         generator: Optional[torch.Generator] = None) -> Tuple[Tensor, Tensor]:
    """Draws regions of a view, and points of each region.

    N of the view's valid (present, not void) regions are drawn uniformly with repetition, whatever
    their sizes; then P cells of each, uniformly with repetition among the region's cells.

    Args:
        region_map (Tensor): (B, R, R) int, negative = void.
        num_regions (int): N.
        points_per_region (int): P.
        generator (torch.Generator, optional): source of randomness, on the map's device.

    Returns:
        tuple[Tensor, Tensor]: region ids, (B, N) int64, and points, (B, N, P, 2) float32, the
        (x, y) in [0, 1] of the drawn cells' centres. An image that is void throughout gets the id
        ``VOID`` (-1) N times, and points that nobody should read.

    Raises:
        ValueError: if N or P is not positive, or the map is not a batch of square integer maps.
    """
    if num_regions < 1 or points_per_region < 1:
        raise ValueError('num_regions and points_per_region must be at least 1, got '
                         f'{num_regions} and {points_per_region}')
    if region_map.dim() != 3 or region_map.shape[1] != region_map.shape[2]:
        raise ValueError(f'region_map must be (B, R, R), got {tuple(region_map.shape)}')
    if region_map.is_floating_point():
        raise ValueError(f'region_map must hold integers, got {region_map.dtype}')
    batch, resolution, _ = region_map.shape
    cells = resolution * resolution

    # Sorted by label, the cells of a region stand in one run; void ones come first.
    labels, order = region_map.reshape(batch, cells).long().sort(dim=1, stable=True)
    starts_run = torch.ones_like(labels, dtype=torch.bool)
    starts_run[:, 1:] = labels[:, 1:] != labels[:, :-1]
    run = (starts_run & (labels >= 0)).cumsum(1)  # 0 for void, then 1, 2, ... region by region
    num_valid = run[:, -1:]

    drawn = 1 + _draw_below(num_valid, (batch, num_regions), generator)
    first = torch.searchsorted(run, drawn)
    end = torch.searchsorted(run, drawn, right=True)
    regions = labels.gather(1, first.clamp(max=cells - 1)).masked_fill(num_valid == 0, VOID)

    size = (end - first).unsqueeze(2)
    offset = _draw_below(size, (batch, num_regions, points_per_region), generator)
    chosen = (first.unsqueeze(2) + offset).clamp(max=cells - 1)
    chosen = order.gather(1, chosen.flatten(1)).view_as(chosen)
    points = torch.stack([chosen % resolution, chosen.div(resolution, rounding_mode='floor')], -1)
    return regions, (points.float() + 0.5) / resolution


def _draw_below(bound: Tensor, shape: Tuple[int, ...],
                generator: Optional[torch.Generator]) -> Tensor:
    """Uniform integers in [0, bound); 0 where the bound is 0. No synchronisation with the host."""
    uniform = torch.rand(shape, generator=generator, device=bound.device)
    # In float32 a number just below 1 times the bound can round up to the bound.
    return torch.minimum((uniform * bound).long(), bound - 1).clamp(min=0)


def generator_from(rng: np.random.Generator) -> torch.Generator:
    """A torch generator that continues a numpy one."""
    return torch.Generator().manual_seed(int(rng.integers(1 << 63)))
