"""Reads features from a network: its last map, at points and in cells."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def last_map(outputs) -> Tensor:
    """Returns the last map of a backbone's output, which is one map or a sequence of them."""
    return outputs[-1] if isinstance(outputs, (tuple, list)) else outputs


def read_points(feature_map: Tensor, points: Tensor) -> Tensor:
    """Reads the features of a map at points.

    The result equals up-sampling the map bilinearly (``align_corners=False``, edges clamped) to any
    R x R and picking the cell whose centre is the point, but no R x R tensor is made. It is
    computed as two products. They are deterministic on every device, forward and backward, while
    the backward of ``grid_sample`` is not on CUDA. They are cheap, because h * w is small.

    Args:
        feature_map (Tensor): (B, D, h, w).
        points (Tensor): (B, M, 2), (x, y) in [0, 1]. A point outside reads the edge.

    Returns:
        Tensor: (B, M, D), float32 at least.
    """
    height, width = feature_map.shape[2:]
    # Half precision, which autocast would choose, would round the weights.
    with torch.autocast(feature_map.device.type, enabled=False):
        if feature_map.dtype in (torch.float16, torch.bfloat16):
            feature_map = feature_map.float()
        weights_x = cell_weights(points[..., 0], width, feature_map.dtype)
        weights_y = cell_weights(points[..., 1], height, feature_map.dtype)
        weights = (weights_y.unsqueeze(3) * weights_x.unsqueeze(2)).flatten(2)
        return weights @ feature_map.flatten(2).transpose(1, 2)


def cell_weights(positions: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Returns linear interpolation weights, (..., size), of positions (...) in [0, 1] over cell
    centres."""
    cells = (positions * size - 0.5).clamp(0, size - 1)
    distance = (cells.unsqueeze(-1) - torch.arange(size, device=cells.device)).abs()
    return (1 - distance).clamp(min=0).to(dtype)


@torch.no_grad()
def cell_features(
    model: nn.Module, pixels: Tensor, cells: int, projected: bool = False, momentum: bool = False
) -> Tensor:
    """Returns the features of each cell: the trunk's last map, projected or not, interpolated
    bilinearly.

    Args:
        model: a model in evaluation mode, with ``backbone``, ``projector`` and
            ``data_preprocessor``.
        pixels: (B, S, S, 3) uint8 RGB, on the model's device.
        cells: number of cells per side.
        projected: whether to apply the projector at each position, even for a model that pools
            first, as contrast of whole images does.
        momentum: whether to take ``momentum_backbone`` and ``momentum_projector``.

    Returns:
        (B, C, cells, cells) float32.
    """
    prefix = 'momentum_' if momentum else ''
    images = model.data_preprocessor.normalise(pixels)
    features = last_map(getattr(model, f'{prefix}backbone')(images))
    if projected:
        features = getattr(model, f'{prefix}projector')(features)
    return F.interpolate(features.float(), (cells, cells), mode='bilinear', align_corners=False)
