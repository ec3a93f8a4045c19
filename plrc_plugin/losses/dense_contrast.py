"""DenseCL's objective (Wang et al., CVPR 2021, arXiv 2011.09157): contrast of matched positions."""

from typing import Optional

import torch
from torch import Tensor
from torch.nn import functional as F

from plrc_plugin.losses.reduction import check_temperature, in_full_precision
from plrc_plugin.losses.similarity import similarity_logsumexp


@torch.no_grad()
@in_full_precision
def match_positions(query_features: Tensor, key_features: Tensor) -> Tensor:
    """Finds for each position of v the most similar one of v', by the cosine of backbone features.

    Args:
        query_features (Tensor): (B, S, C), features of v.
        key_features (Tensor): (B, S', C), features of v'.

    Returns:
        Tensor: (B, S) int64, indices into S'.
    """
    query_features, key_features = (F.normalize(x, dim=2) for x in (query_features, key_features))
    return (query_features @ key_features.transpose(1, 2)).argmax(2)


@in_full_precision
def dense_contrast(
    queries: Tensor,
    keys: Tensor,
    matches: Tensor,
    negatives: Tensor,
    temperature: float = 0.2,
    own: Optional[Tensor] = None,
) -> Tensor:
    """``-log( exp(r . t / T) / (exp(r . t / T) + sum_j exp(r . t_j / T)) )``, mean over positions.

    Args:
        queries (Tensor): (B, S, D), r of each position from the online encoder, l2-normalised.
        keys (Tensor): (B, S', D), from the momentum encoder, l2-normalised.
        matches (Tensor): (B, S) int, the key t of each query.
        negatives (Tensor): (K, D), t_j, the pooled keys of other images, l2-normalised.
        temperature (float): T.

    Returns:
        Tensor: scalar.
    """
    check_temperature(temperature=temperature)
    matched = keys.gather(1, matches.unsqueeze(2).expand(-1, -1, keys.shape[2]))
    positive = (queries * matched).sum(2) / temperature
    everything = torch.ones(len(negatives), dtype=torch.bool, device=negatives.device)
    image = torch.arange(len(queries), device=queries.device).repeat_interleave(queries.shape[1])
    lse = similarity_logsumexp(
        queries.flatten(0, 1), negatives.to(queries.dtype), temperature, everything, own, image
    ).view_as(positive)
    return (torch.logaddexp(positive, lse) - positive).mean()
