"""Reads the embeddings of points and of regions from projected maps."""

import torch
from torch import Tensor
from torch.nn import functional as F

from plrc_plugin.models.reading import cell_weights, read_points


def embed_points(projected_map: Tensor, points: Tensor) -> Tensor:
    """Returns the l2-normalised embeddings (B, M, D) of points (B, M, 2) of a map (B, D, h, w)."""
    return F.normalize(read_points(projected_map, points), dim=2)


def embed_regions(projected_map: Tensor, region_map: Tensor, regions: Tensor) -> Tensor:
    """Returns the l2-normalised embeddings of regions, which are means of the map over their cells.

    The result equals up-sampling the map bilinearly to R x R and pooling it over each region's
    mask. The R x R x D tensor is never made, because the mean is taken over the interpolation
    weights.

    Args:
        projected_map (Tensor): (B, D, h, w).
        region_map (Tensor): (B, R, R) int, the regions of the view's cells.
        regions (Tensor): (B, N) int, the ids to pool. An id that the map lacks gives zeros.

    Returns:
        Tensor: (B, N, D), float32 at least.
    """
    height, width = projected_map.shape[2:]
    with torch.autocast(projected_map.device.type, enabled=False):
        if projected_map.dtype in (torch.float16, torch.bfloat16):
            projected_map = projected_map.float()
        dtype = projected_map.dtype
        masks = (region_map.unsqueeze(1) == regions[:, :, None, None]).to(dtype)
        centres = (torch.arange(masks.shape[-1], device=masks.device) + 0.5) / masks.shape[-1]
        weights = torch.einsum(
            'bnyx,yh,xw->bnhw',
            masks,
            cell_weights(centres, height, dtype),
            cell_weights(centres, width, dtype),
        )
        pooled = torch.einsum('bnhw,bdhw->bnd', weights, projected_map)
        cells = masks.sum((2, 3)).clamp(min=1).unsqueeze(2)
        return F.normalize(pooled / cells, dim=2)
