"""Reading features at points of a map, bilinearly."""
import torch
from torch import Tensor


def read_points(feature_map: Tensor, points: Tensor) -> Tensor:
    """Features of a map at points.

    Equals up-sampling the map bilinearly (``align_corners=False``, edges clamped) to any R x R and
    picking the cell whose centre the point is, without the R x R tensor. Written as two products,
    it is deterministic on every device, forward and backward (``grid_sample``'s backward is not on
    CUDA), and as h * w is small, cheap.

    Args:
        feature_map (Tensor): (B, D, h, w).
        points (Tensor): (B, M, 2), (x, y) in [0, 1]; outside, the edge is read.

    Returns:
        Tensor: (B, M, D), float32 at least.
    """
    height, width = feature_map.shape[2:]
    # Half precision would round the weights, and autocast would make it so.
    with torch.autocast(feature_map.device.type, enabled=False):
        if feature_map.dtype in (torch.float16, torch.bfloat16):
            feature_map = feature_map.float()
        weights_x = cell_weights(points[..., 0], width, feature_map.dtype)
        weights_y = cell_weights(points[..., 1], height, feature_map.dtype)
        weights = (weights_y.unsqueeze(3) * weights_x.unsqueeze(2)).flatten(2)
        return weights @ feature_map.flatten(2).transpose(1, 2)


def cell_weights(positions: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Linear interpolation weights, (..., size), of positions (...) in [0, 1] over cell centres."""
    cells = (positions * size - 0.5).clamp(0, size - 1)
    distance = (cells.unsqueeze(-1) - torch.arange(size, device=cells.device)).abs()
    return (1 - distance).clamp(min=0).to(dtype)
