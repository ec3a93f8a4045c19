"""Affinity measures against loops over cells, pairs and thresholds."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from plrc_plugin.evaluation.affinity_quality import (
    affinity_auc,
    best_iou,
    centre_ious,
    image_quality,
    near_borders,
)

SIZE = 6


@pytest.fixture(params=range(4))
def image(request):
    """Features (3, 6, 6) and blobs of background, void and two objects."""
    rng = np.random.default_rng(request.param)
    objects = np.kron(rng.permutation([-1, 0, 0, 1, 1, 2, 2, 2, 0]).reshape(3, 3), np.ones((2, 2)))
    return torch.from_numpy(rng.normal(size=(3, SIZE, SIZE))), torch.from_numpy(objects.astype(int))


def cells():
    return [(y, x) for y in range(SIZE) for x in range(SIZE)]


def cosine(features, a, b):
    return F.cosine_similarity(features[:, a[0], a[1]], features[:, b[0], b[1]], dim=0).item()


def naive_borders(objects, distance):
    return {
        a
        for a in cells()
        for b in cells()
        if max(abs(a[0] - b[0]), abs(a[1] - b[1])) <= distance
        and objects[a] >= 0
        and objects[b] >= 0
        and objects[a] != objects[b]
    }


def naive_auc(features, objects, taken):
    inside, across = [], []
    taken = sorted(c for c in taken if objects[c] >= 0)
    for i, a in enumerate(taken):
        for b in taken[:i]:
            if objects[a] == objects[b] and objects[a] > 0:
                inside.append(cosine(features, a, b))
            elif objects[a] != objects[b]:
                across.append(cosine(features, a, b))
    wins = sum((p > n) + (p == n) / 2 for p in inside for n in across)
    return wins / (len(inside) * len(across))


@pytest.mark.parametrize('distance', [1, 2])
def test_auc_is_the_share_of_pairs_of_pairs_in_order(image, distance):
    features, objects = image
    assert affinity_auc(features, objects) == pytest.approx(naive_auc(features, objects, cells()))
    borders = naive_borders(objects, distance)
    near = near_borders(objects, distance)
    assert {tuple(c) for c in near.nonzero().tolist()} == borders
    assert affinity_auc(features, objects, near) == pytest.approx(
        naive_auc(features, objects, borders)
    )


def test_auc_at_the_same_offset_compares_pairs_equally_placed(image):
    features, objects = image
    taken = [c for c in cells() if objects[c] >= 0]
    pairs = [(a, b) for i, b in enumerate(taken) for a in taken[:i]]
    shares = []
    for a, b in pairs:
        others = [
            cosine(features, c, d)
            for c, d in pairs
            if objects[c] != objects[d] and (d[0] - c[0], d[1] - c[1]) == (b[0] - a[0], b[1] - a[1])
        ]
        if objects[a] == objects[b] and objects[a] > 0 and others:
            own = cosine(features, a, b)
            shares.append(np.mean([(own > o) + (own == o) / 2 for o in others]))
    assert affinity_auc(features, objects, same_offset=True) == pytest.approx(np.mean(shares))


def test_smoothness_alone_wins_overall_and_nothing_at_the_same_offset():
    # Affinities that tell how far apart two cells are, and nothing of what is there.
    y, x = torch.meshgrid(torch.arange(14.0), torch.arange(14.0), indexing='ij')
    features = torch.stack([torch.cos(y / 9), torch.sin(y / 9), torch.cos(x / 9), torch.sin(x / 9)])
    features += 1e-3 * torch.randn(features.shape)  # or rounding would order equal cosines
    objects = torch.zeros(14, 14, dtype=torch.long)
    objects[3:9, 3:9] = 1
    assert affinity_auc(features, objects) > 0.8
    assert affinity_auc(features, objects, same_offset=True) == pytest.approx(0.5, abs=0.03)


def test_auc_of_known_maps():
    objects = torch.tensor([[1, 1, 0], [1, 1, 0], [2, 2, 0]])
    perfect = F.one_hot(objects, 3).permute(2, 0, 1).double()
    assert affinity_auc(perfect, objects) == 1
    assert affinity_auc(torch.ones(2, 3, 3), objects) == 0.5  # all cosines equal
    assert affinity_auc(perfect, torch.zeros(3, 3, dtype=torch.long)) is None
    assert affinity_auc(perfect, torch.ones(3, 3, dtype=torch.long)) is None
    # Two objects of one class: alike for the class, not as objects.
    semantic = objects.clamp(max=1)
    quality = image_quality(F.one_hot(semantic, 2).permute(2, 0, 1).double(), semantic, objects)
    assert quality['class_auc'] == 1 > quality['auc']


def naive_best_iou(scores, truth):
    best = 0
    for threshold in set(scores):
        taken = [s >= threshold for s in scores]
        both = sum(t and m for t, m in zip(taken, truth))
        best = max(best, both / sum(t or m for t, m in zip(taken, truth)))
    return best


@pytest.mark.parametrize('seed', range(5))
def test_best_iou_is_the_best_of_all_thresholds(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, 30) / 6  # many are equal
    truth = rng.random(30) < 0.4
    assert best_iou(torch.from_numpy(scores), torch.from_numpy(truth)) == pytest.approx(
        naive_best_iou(scores.tolist(), truth.tolist())
    )


def test_centre_ious_of_every_object(image):
    features, objects = image
    expected = []
    for label in (1, 2):
        own = [c for c in cells() if objects[c] == label]
        if len(own) < 4:
            continue
        middle = np.mean(own, axis=0)
        centre = min(own, key=lambda c: (c[0] - middle[0]) ** 2 + (c[1] - middle[1]) ** 2)
        valid = [c for c in cells() if objects[c] >= 0]
        border = [
            a
            for a in valid
            if any(max(abs(a[0] - b[0]), abs(a[1] - b[1])) <= 1 for b in own)
            and any(max(abs(a[0] - b[0]), abs(a[1] - b[1])) <= 1 for b in valid if b not in own)
        ]
        expected.append(
            tuple(
                naive_best_iou(
                    [cosine(features, centre, c) for c in taken], [c in own for c in taken]
                )
                for taken in (valid, border)
            )
        )
    assert len(expected) == 2
    np.testing.assert_allclose(centre_ious(features, objects), expected)


def test_objects_without_surroundings_or_of_few_cells_are_left_out():
    whole = torch.ones(4, 4, dtype=torch.long)
    assert centre_ious(torch.rand(2, 4, 4), whole) == []
    tiny = torch.zeros(4, 4, dtype=torch.long)
    tiny[0, :3] = 1
    assert centre_ious(torch.rand(2, 4, 4), tiny) == []
    # Void all around, and the only other cells far away.
    lonely = torch.full((8, 8), -1)
    lonely[:3, :3], lonely[7, 7] = 1, 0
    assert centre_ious(torch.rand(2, 8, 8), lonely) == []
    assert len(centre_ious(torch.rand(2, 4, 4), tiny, min_cells=3)) == 1
