"""Where a view lies in its image.

Positions are (x, y) in [0, 1], fractions of width and height from the upper left corner: they do
not depend on a resolution. The geometry of a view is the affine map, (2, 3), from positions in the
view to positions in the original image.
"""

from typing import Optional

import numpy as np
import torch
from torch import Tensor


def crop_affine(
    left: float, top: float, width: float, height: float, flip: bool = False
) -> np.ndarray:
    """Geometry of a crop, given as fractions of the image, mirrored left-right if ``flip``.

    Returns:
        np.ndarray: (2, 3) float64.
    """
    if flip:
        return np.array([[-width, 0, left + width], [0, height, top]], dtype=np.float64)
    return np.array([[width, 0, left], [0, height, top]], dtype=np.float64)


def view_to_image(positions: Tensor, affine: Tensor) -> Tensor:
    """Positions (..., M, 2) in views of geometry (..., 2, 3), as positions in the image."""
    # Half precision would round positions to 1/256 of a view.
    with torch.autocast(positions.device.type, enabled=False):
        return positions @ affine[..., :2].transpose(-1, -2) + affine[..., 2].unsqueeze(-2)


def image_to_view(positions: Tensor, affine: Tensor) -> Tensor:
    """Inverse of :func:`view_to_image`; outside [0, 1] where the view does not see a position."""
    (a, b), (c, d) = (affine[..., i, :2].unbind(-1) for i in (0, 1))
    # Written out: torch.linalg.inv checks for singularity, which synchronises the device.
    inverse = torch.stack([torch.stack([d, -b], -1), torch.stack([-c, a], -1)], -2)
    inverse = inverse / (a * d - b * c)[..., None, None]
    with torch.autocast(positions.device.type, enabled=False):
        return (positions - affine[..., 2].unsqueeze(-2)) @ inverse.transpose(-1, -2)


def view_to_view(positions: Tensor, affine: Tensor, other_affine: Tensor) -> Tensor:
    """Positions (..., M, 2) of one view as positions of another view of the same image."""
    return image_to_view(view_to_image(positions, affine), other_affine)


def inside(positions: Tensor) -> Tensor:
    """Whether positions (..., 2) lie in [0, 1] on both axes; (...) bool."""
    return ((positions >= 0) & (positions <= 1)).all(-1)


def cell_centres(
    resolution: int, dtype: torch.dtype = torch.float64, device: Optional[torch.device] = None
) -> Tensor:
    """Centres of the cells of an R x R map, (R * R, 2), row by row.

    They are made on the device that needs them: for a copy to it the host would wait."""
    steps = (torch.arange(resolution, dtype=dtype, device=device) + 0.5) / resolution
    y, x = torch.meshgrid(steps, steps, indexing='ij')
    return torch.stack([x.flatten(), y.flatten()], -1)
