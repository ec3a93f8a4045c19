"""Measures how well affinities inside an image agree with the masks of its objects."""

from typing import Optional

import torch
from torch import Tensor
from torch.nn import functional as F


def affinity_auc(
    features: Tensor, objects: Tensor, near: Optional[Tensor] = None, same_offset: bool = False
) -> Optional[float]:
    """Probability that two cells of one object are more similar than a cell of an object and a cell
    outside of it (in another object or the background). Equal similarities count half.

    Args:
        features: (C, g, g).
        objects: (g, g), where 0 is background, 1, 2, ... are the objects, and -1 is void.
        near: (g, g) bool; only pairs of two such cells count. Defaults to all.
        same_offset: whether to compare only pairs with the same offset in rows and columns; every
            pair in an object counts once. Without it any smooth map scores well, even an untrained
            one, because cells of one object are often neighbours.

    Returns:
        The area under the ROC curve of the cosine over all pairs, or its mean over offsets; None if
        no two pairs can be compared.
    """
    taken = objects >= 0 if near is None else (objects >= 0) & near
    ids, vectors = objects[taken], F.normalize(features[:, taken], dim=0)
    i, j = torch.triu_indices(len(ids), len(ids), 1, device=ids.device)
    cosines = (vectors.T @ vectors)[i, j]
    inside, across = (ids[i] == ids[j]) & (ids[i] > 0), ids[i] != ids[j]
    position = taken.nonzero()
    rows, columns = (position[j] - position[i]).T
    offset = rows * 2 * objects.shape[1] + columns if same_offset else torch.zeros_like(i)
    won, compared = 0.0, 0
    for o in offset[inside].unique():
        own, others = cosines[inside & (offset == o)], cosines[across & (offset == o)]
        if len(others):
            others = others.sort().values
            below = torch.searchsorted(others, own) + torch.searchsorted(others, own, right=True)
            won += below.double().sum().item() / (2 * len(others))
            compared += len(own)
    return won / compared if compared else None


def centre_ious(
    features: Tensor, objects: Tensor, distance: int = 1, min_cells: int = 4
) -> list[tuple[float, float]]:
    """Computes the IoU of each object with the affinity map of its centre, at the best threshold.

    The centre is the object's cell nearest to its centroid.

    Args:
        features: (C, g, g).
        objects: (g, g), as in :func:`affinity_auc`.
        distance: the second value compares only cells within this distance, in cells, from the
            object's border, at their own best threshold.
        min_cells: objects with fewer cells are left out. So are objects that have nothing near
            them but void, such as one in the middle of a crowd.

    Returns:
        For each object, the IoU over all cells and the IoU near its border.
    """
    vectors = F.normalize(features, dim=0)
    valid = objects >= 0
    ious = []
    for label in objects[objects > 0].unique():
        mask = objects == label
        near = valid & _dilated(mask, distance) & _dilated(valid & ~mask, distance)
        if mask.sum() < min_cells or not near.any():
            continue
        cells = mask.nonzero()
        offsets = cells - cells.double().mean(0)
        y, x = cells[offsets.square().sum(1).argmin()]
        affinity = torch.einsum('c,chw->hw', vectors[:, y, x], vectors)
        ious.append((best_iou(affinity[valid], mask[valid]), best_iou(affinity[near], mask[near])))
    return ious


def best_iou(scores: Tensor, truth: Tensor) -> float:
    """Returns the IoU of ``scores >= threshold`` and ``truth``, both (N,), at the best
    threshold."""
    scores, order = scores.sort(descending=True)
    hits = truth[order].cumsum(0).double()
    taken = torch.arange(1, len(scores) + 1, device=scores.device)
    ious = hits / (taken + truth.sum() - hits)
    ious[:-1][scores[:-1] == scores[1:]] = 0  # a threshold cannot separate equal scores
    return ious.max().item()


def near_borders(objects: Tensor, distance: int = 1) -> Tensor:
    """Returns the cells (g, g) within ``distance`` of a cell of another object or of the
    background."""
    void = objects < 0
    ids = objects.double()
    highest = _pooled(ids.masked_fill(void, -torch.inf), distance)
    lowest = -_pooled(-ids.masked_fill(void, torch.inf), distance)
    return (highest != lowest) & ~void


def image_quality(features: Tensor, semantic: Tensor, instances: Tensor, distance: int = 1) -> dict:
    """Returns all measures of one image: ``auc``, ``auc_boundary`` and ``auc_same_offset`` of
    objects; ``class_auc`` and ``class_auc_boundary``, where all objects of a class count as one;
    and the lists ``iou`` and ``iou_boundary`` over the objects."""
    ious = centre_ious(features, instances, distance)
    return dict(
        auc=affinity_auc(features, instances),
        auc_boundary=affinity_auc(features, instances, near_borders(instances, distance)),
        auc_same_offset=affinity_auc(features, instances, same_offset=True),
        class_auc=affinity_auc(features, semantic),
        class_auc_boundary=affinity_auc(features, semantic, near_borders(semantic, distance)),
        iou=[overall for overall, _ in ious],
        iou_boundary=[boundary for _, boundary in ious],
    )


def _dilated(mask: Tensor, distance: int) -> Tensor:
    return _pooled(mask.double(), distance) > 0


def _pooled(values: Tensor, distance: int) -> Tensor:
    return F.max_pool2d(values[None], 2 * distance + 1, stride=1, padding=distance)[0]
