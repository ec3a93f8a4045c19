"""Point-level region contrast, L_c (Eq. 2)."""

from typing import Optional

import torch
from torch import Tensor, nn

from plrc_plugin.errors import check_positive
from plrc_plugin.losses.reduction import (
    check_temperature,
    in_full_precision,
    mean_over_counted,
    mean_over_counted_of_all_ranks,
)
from plrc_plugin.losses.similarity import similarity_logsumexp
from plrc_plugin.registry import MODELS


def point_region_contrast(
    queries: Tensor,
    keys: Tensor,
    query_regions: Tensor,
    key_regions: Tensor,
    temperature: float = 0.2,
    inter_image: bool = True,
    negatives: Optional[Tensor] = None,
    own: Optional[Tensor] = None,
) -> Tensor:
    """Contrasts single points between regions.

    ::

        L_b = mean over pairs (i, k) of image b with a_i = a_k of
              -log( exp(p_i . p'_k / t) / sum_j exp(p_i . p'_j / t) )
        L_c = mean over the images b that have a pair

    Here j runs over the key points of the same image (intra) and of all others (inter), and over
    further negatives if they are given.

    Args:
        queries (Tensor): (B, M, D), points p_i of view v from the online encoder, l2-normalised.
        keys (Tensor): (B, K, D), points p'_k of view v' from the momentum encoder, l2-normalised.
        query_regions (Tensor): (B, M) int, the region a_i of each point. Ids are compared within
            an image only. A negative id is void: such a point is neither in a pair nor a negative.
        key_regions (Tensor): (B, K) int, likewise.
        temperature (float): tau.
        inter_image (bool): whether j runs over other images too. If not, ``negatives`` have no
            effect. Defaults to True.
        negatives (Tensor, optional): (J, D), l2-normalised points of images outside the batch. Rows
            of zeros are void.
        own (Tensor, optional): (B, J) bool, the ``negatives`` that are earlier points of an image
            of the batch. The queries of that image leave them out.

    Returns:
        Tensor: scalar; 0, with zero gradients, if no image has a pair.

    Reference:
        Eq. 2 and the text below it.
    """
    values, counted = _contrast_per_image(
        queries, keys, query_regions, key_regions, temperature, inter_image, negatives, own
    )
    return mean_over_counted(values, counted)


@in_full_precision
def _contrast_per_image(
    queries: Tensor,
    keys: Tensor,
    query_regions: Tensor,
    key_regions: Tensor,
    temperature: float,
    inter_image: bool,
    negatives: Optional[Tensor],
    own: Optional[Tensor] = None,
) -> tuple[Tensor, Tensor]:
    """L_b (B,) and whether the image has a pair (B,)."""
    check_temperature(temperature=temperature)
    pairs = _pairs(query_regions, key_regions).to(queries.dtype)
    pairs_of_query = pairs.sum(2)
    if inter_image:
        counted, rows = queries.flatten(0, 1), _rows_with(pairs_of_query.flatten())
        image = torch.arange(len(counted), device=counted.device) // queries.shape[1]
        if rows is not None:
            counted, image = counted[rows], image[rows]
        lse = similarity_logsumexp(
            counted, keys.flatten(0, 1), temperature, key_regions.flatten() >= 0
        )
        if negatives is not None:  # kept apart, because joining both would copy a long queue
            further = similarity_logsumexp(
                counted, negatives.to(keys.dtype), temperature, negatives.any(1), own, image
            )
            lse = torch.logaddexp(lse, further)
        if rows is not None:
            lse = torch.zeros_like(pairs_of_query).flatten().index_put((rows,), lse)
        lse = lse.view_as(pairs_of_query)
    else:
        void = (key_regions < 0).unsqueeze(1)
        lse = (queries @ keys.transpose(1, 2) / temperature).masked_fill(void, -1e9).logsumexp(2)
    # The numerators, summed over k, need only the sum of a region's keys, not each similarity.
    positives = (queries * (pairs @ keys)).sum(2) / temperature
    num_pairs = pairs_of_query.sum(1)
    values = (pairs_of_query * lse - positives).sum(1) / num_pairs.clamp(min=1)
    return values, num_pairs > 0


@torch.no_grad()
def share_without_pair(query_regions: Tensor, key_regions: Tensor) -> Tensor:
    """Computes the share, a scalar in [0, 1], of the images that have no pair of equal regions.

    Args:
        query_regions (Tensor): (B, M) int, negative = void.
        key_regions (Tensor): (B, K) int.
    """
    pairs = _pairs(query_regions, key_regions)
    return 1 - pairs.any(2).any(1).float().mean()


def _pairs(query_regions: Tensor, key_regions: Tensor) -> Tensor:
    """The pairs (i, k) of Eq. 2, (B, M, K) bool."""
    same = query_regions.unsqueeze(2) == key_regions.unsqueeze(1)
    return same & (query_regions.unsqueeze(2) >= 0)


def _rows_with(pairs_of_query: Tensor) -> Optional[Tensor]:
    """Indices of the queries that have a pair, about six in ten for two random crops. The
    denominators of the others do not count. Returns None, which means all queries, on a device for
    which the host would have to wait."""
    if pairs_of_query.device.type != 'cpu':
        return None
    return pairs_of_query.nonzero().squeeze(1)


@MODELS.register_module()
class PointRegionContrast(nn.Module):
    """:func:`point_region_contrast` with its temperature, averaged over the images of all ranks.

    Args:
        temperature (float): tau. Defaults to 0.2.
    """

    def __init__(self, temperature: float = 0.2):
        super().__init__()
        check_positive('PointRegionContrast', temperature=temperature)
        self.temperature = temperature

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        query_regions: Tensor,
        key_regions: Tensor,
        inter_image: bool = True,
        negatives: Optional[Tensor] = None,
        own: Optional[Tensor] = None,
    ) -> Tensor:
        return mean_over_counted_of_all_ranks(
            *_contrast_per_image(
                queries,
                keys,
                query_regions,
                key_regions,
                self.temperature,
                inter_image,
                negatives,
                own,
            )
        )
