"""PixPro's objective (Xie et al., CVPR 2021, arXiv 2011.10043): consistency of near positions."""

import torch
from torch import Tensor, nn

from plrc_plugin.losses.reduction import (
    in_full_precision,
    mean_over_counted,
    mean_over_counted_of_all_ranks,
)
from plrc_plugin.registry import MODELS


def pixel_consistency(queries: Tensor, keys: Tensor, pairs: Tensor) -> Tensor:
    """``L_b = mean over pairs (i, j) of image b of -cos(y_i, x'_j)``, then the mean over images
    that have a pair.

    Args:
        queries (Tensor): (B, S, D), y from the online encoder and the propagation, l2-normalised.
        keys (Tensor): (B, S', D), x' from the momentum encoder, l2-normalised.
        pairs (Tensor): (B, S, S') bool, the pairs (i, j).

    Returns:
        Tensor: scalar in [-1, 1]. It is 0, with zero gradients, if there is no pair.
    """
    return mean_over_counted(*_consistency_per_image(queries, keys, pairs))


@in_full_precision
def _consistency_per_image(queries: Tensor, keys: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    # Summing the keys of a query's pairs over j first needs one product instead of S' cosines.
    cosines = (queries * (pairs.to(keys.dtype) @ keys)).sum((1, 2))
    num_pairs = pairs.sum((1, 2))
    return -cosines / num_pairs.clamp(min=1), num_pairs > 0


@in_full_precision
def near_pairs(
    positions: Tensor,
    diagonals: Tensor,
    other_positions: Tensor,
    other_diagonals: Tensor,
    threshold: float,
) -> Tensor:
    """Finds the pairs of positions that are closer than ``threshold`` bins.

    Args:
        positions (Tensor): (B, S, 2), centres of the bins of v's map in the image, in pixels.
        diagonals (Tensor): (B,), length of a bin's diagonal in the image, in pixels.
        other_positions (Tensor): (B, S', 2), those of v'.
        other_diagonals (Tensor): (B,), those of v'.
        threshold (float): largest distance, in diagonals of the larger bin.

    Returns:
        Tensor: (B, S, S') bool.
    """
    # The exact formula, because a matrix product would lose differences of large coordinates.
    distance = torch.cdist(positions, other_positions, compute_mode='donot_use_mm_for_euclid_dist')
    return distance < threshold * torch.maximum(diagonals, other_diagonals)[:, None, None]


@MODELS.register_module()
class PixelConsistency(nn.Module):
    """:func:`pixel_consistency`, averaged over the images of all ranks."""

    def forward(self, queries: Tensor, keys: Tensor, pairs: Tensor) -> Tensor:
        return mean_over_counted_of_all_ranks(*_consistency_per_image(queries, keys, pairs))
