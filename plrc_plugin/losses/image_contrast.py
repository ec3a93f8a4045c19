"""Image-level contrast, L_m (Eq. 1): MoCo's InfoNCE."""

from typing import Optional

import torch
from torch import Tensor
from torch.nn import functional as F

from plrc_plugin.losses.reduction import check_temperature, in_full_precision
from plrc_plugin.losses.similarity import LEFT_OUT


@in_full_precision
def image_contrast(
    queries: Tensor,
    keys: Tensor,
    negatives: Tensor,
    temperature: float = 0.2,
    own: Optional[Tensor] = None,
) -> tuple[Tensor, Tensor]:
    """``-log( exp(z . z' / t) / (exp(z . z' / t) + sum_j exp(z . z'_j / t)) )``, mean over images.

    Args:
        queries (Tensor): (B, D), z from the online encoder, l2-normalised.
        keys (Tensor): (B, D), z' from the momentum encoder, l2-normalised.
        negatives (Tensor): (K, D), z'_j of earlier images (the queue), l2-normalised.
        temperature (float): tau.
        own (Tensor, optional): (B, K) bool, the negatives that are keys of the query's own image.
            The sum of this query leaves them out.

    Returns:
        tuple[Tensor, Tensor]: the loss, and the share of queries whose own key is the nearest
        (top-1 accuracy), both scalars.
    """
    check_temperature(temperature=temperature)
    positive = (queries * keys).sum(1, keepdim=True)
    logits = torch.cat([positive, queries @ negatives.T], dim=1) / temperature
    if own is not None:
        logits[:, 1:].masked_fill_(own, LEFT_OUT)
    target = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    top1 = (logits.detach().argmax(1) == 0).to(logits.dtype).mean()
    return F.cross_entropy(logits, target), top1
