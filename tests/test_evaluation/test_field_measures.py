"""In-context segmentation, LOST's CorLoc, over-clustering and DSE, against loops and by hand."""

from itertools import permutations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from plrc_plugin.evaluation import (
    DenseStructure,
    InContextSegmentation,
    ObjectDiscovery,
    OverClustering,
    dense_structure,
)
from plrc_plugin.evaluation.in_context import class_shares, rare_cells, retrieved_labels
from plrc_plugin.evaluation.object_discovery import box_iou, found_box, mask_boxes
from plrc_plugin.evaluation.over_clustering import kmeans, matched_miou


def evaluated(metric, images, classes=('background', 'a', 'b')):
    """A metric's numbers of [(features, truth)]."""
    metric.dataset_meta = dict(classes=classes)
    for features, truth in images:
        batch = {name: torch.as_tensor(value)[None] for name, value in truth.items()}
        metric.process(dict(batch, pixels=None), features[None])
    return metric.evaluate(len(images))


def image_of(mask, centres, noise, fit, cells=4, side=4):
    """An image whose cells have the features of their class, and its truth."""
    semantic_mask = mask.repeat_interleave(side, 0).repeat_interleave(side, 1)
    features = centres[mask.clamp(min=0)].permute(2, 0, 1)
    features = features + noise * torch.randn(features.shape)
    return features, dict(
        semantic=mask,
        instances=mask,
        semantic_mask=semantic_mask.int(),
        instance_mask=semantic_mask.int(),
        fit=fit,
    )


def images(noise, count=6, classes=3, channels=8):
    centres = F.normalize(torch.randn(classes, channels), dim=1)
    masks = torch.randint(-1, classes, (count, 4, 4))
    return [image_of(mask, centres, noise, i < count // 2) for i, mask in enumerate(masks)]


def test_shares_by_loops():
    mask = torch.randint(-1, 4, (12, 12))
    shares = class_shares(mask, 3, 4)
    for row in range(3):
        for column in range(3):
            cell = mask[4 * row : 4 * row + 4, 4 * column : 4 * column + 4].clamp(min=0)
            expected = [(cell == c).double().mean().item() for c in range(4)]
            assert shares[3 * row + column].tolist() == pytest.approx(expected)
    assert shares.sum(1).allclose(torch.ones(9))


def test_rare_classes_reach_the_memory():
    shares = torch.zeros(100, 3)
    shares[:, 0] = 1
    shares[:4] = torch.tensor([0, 0, 1.0])
    taken = [rare_cells(shares, 10, torch.Generator().manual_seed(i)) for i in range(20)]
    # The score of a rare cell is below 4, of the others 96 times a uniform draw.
    assert sum(int((t < 4).sum()) for t in taken) > 70  # by chance 8
    assert all(len(t) == 10 for t in taken)
    assert sorted(rare_cells(shares, 1000, torch.Generator())) == list(range(100))


def test_retrieval_by_loops():
    queries, bank = torch.randn(7, 5), F.normalize(torch.randn(30, 5), dim=1)
    labels = torch.rand(30, 4)
    found = retrieved_labels(queries, bank, labels, k=6, temperature=0.1, chunk=3)
    for query, got in zip(queries, found):
        cosines = [F.cosine_similarity(query, other, dim=0).item() for other in bank]
        nearest = np.argsort(cosines)[-6:]
        weights = np.exp(np.array(cosines)[nearest] / 0.1)
        expected = (weights[:, None] * labels[nearest].numpy()).sum(0) / weights.sum()
        np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_in_context_segmentation_of_what_can_and_cannot_be_told():
    good = evaluated(InContextSegmentation(k=3), images(noise=0.01))['in_context/mIoU']
    bad = evaluated(InContextSegmentation(k=3), images(noise=30.0))['in_context/mIoU']
    assert good > 60 > bad  # borders between cells are blurred by the enlargement
    few = evaluated(InContextSegmentation(k=3, memory=3), images(noise=0.01))
    assert few['in_context/mIoU'] < good


def lost_by_loops(features, patches):
    channels, size, _ = features.shape
    vectors = (features - features.mean()).reshape(channels, -1).T.double().numpy()
    count = len(vectors)
    products = [[float(a @ b) for b in vectors] for a in vectors]
    degrees = [sum(products[p][q] > 0 for q in range(count) if q != p) for p in range(count)]
    order = sorted(range(count), key=lambda p: degrees[p])
    seed = order[0]
    voters = [p for p in order[:patches] if products[seed][p] > 0]
    votes = [sum(products[p][q] for p in voters) > 0 for q in range(count)]
    part, border = {seed}, [seed]
    while border:
        row, column = divmod(border.pop(), size)
        for r, c in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            q = r * size + c
            if 0 <= r < size and 0 <= c < size and votes[q] and q not in part:
                part.add(q)
                border.append(q)
    rows, columns = zip(*(divmod(p, size) for p in part))
    return [min(columns), min(rows), max(columns) + 1, max(rows) + 1]


@pytest.mark.parametrize('patches', [1, 10, 1000])
def test_the_found_box_by_loops(patches):
    for _ in range(5):
        features = F.interpolate(torch.randn(1, 6, 3, 3), (9, 9), mode='bicubic')[0].relu()
        features += 0.05 * torch.rand(features.shape)
        assert found_box(features, patches).tolist() == lost_by_loops(features, patches)


def test_corloc():
    background = torch.randn(16)
    thing = -background
    kept = []
    for left in range(6):
        mask = torch.zeros(8, 8, dtype=torch.long)
        mask[2:5, left : left + 3] = 1
        features = torch.where(mask.bool(), thing[:, None, None], background[:, None, None])
        truth = dict(instance_mask=mask.repeat_interleave(4, 0).repeat_interleave(4, 1), fit=False)
        kept.append((features, truth))
    assert evaluated(ObjectDiscovery(), kept) == {'discovery/corloc': 100}
    for _, truth in kept[:3]:  # the object is said to be elsewhere
        truth['instance_mask'] = truth['instance_mask'].roll(16, 0)
    empty = (kept[0][0], dict(instance_mask=torch.zeros(32, 32), fit=False))
    for_fit = (kept[0][0], dict(kept[0][1], fit=True))
    assert evaluated(ObjectDiscovery(), [*kept, empty, for_fit]) == {'discovery/corloc': 50}


def test_boxes():
    mask = np.zeros((9, 9), int)
    mask[1:3, 2:6], mask[5, 5], mask[8, 8] = 1, 2, -1
    assert [box.tolist() for box in mask_boxes(mask)] == [[2, 1, 6, 3], [5, 5, 6, 6]]
    a, b = np.array([0, 0, 2, 2]), np.array([1, 1, 3, 3])
    assert box_iou(a, b) == pytest.approx(1 / 7) and box_iou(a, a) == 1 and box_iou(a, a + 2) == 0


def test_clusters_are_those_of_well_separated_vectors():
    centres = F.normalize(torch.randn(6, 12), dim=1)
    truth = torch.randint(0, 6, (300,))
    vectors = F.normalize(centres[truth] + 0.02 * torch.randn(300, 12), dim=1)
    found = kmeans(vectors, 60)
    assert all(len(truth[found == c].unique()) <= 1 for c in range(60))
    assert torch.equal(found, kmeans(vectors, 60))
    assert matched_miou(found, truth, 6) == 1
    assert len(kmeans(vectors[:3], 60).unique()) == 3


def test_matching_by_all_permutations():
    clusters, labels = torch.randint(0, 7, (200,)), torch.randint(0, 3, (200,))
    joined = torch.tensor([torch.bincount(labels[clusters == c]).argmax() for c in clusters])
    best = 0.0
    for order in permutations(range(3)):
        ious = []
        for label in range(3):
            mine, theirs = joined == order[label], labels == label
            ious.append(((mine & theirs).sum() / (mine | theirs).sum()).item())
        best = max(best, np.mean(ious))
    assert matched_miou(clusters, labels, 3) == pytest.approx(best)


def test_over_clustering_counts_images_to_score_on_alone():
    found = evaluated(OverClustering(clusters=30, seeds=2), images(noise=0.001, count=8))
    assert found['clusters/mIoU'] == 100 and found['clusters/mIoU_spread'] == 0
    assert evaluated(OverClustering(clusters=3), images(noise=30.0, count=8))['clusters/mIoU'] < 60


def dse_by_hand(features, assignment):
    """The terms for features (B, N, C) whose clusters, within an image and over all, are given."""
    flat = features.reshape(-1, features.shape[2])
    size = np.linalg.norm(flat - flat.mean(0), axis=1).mean()

    def spread(vectors):
        values = np.linalg.svd(vectors - vectors.mean(0), compute_uv=False)
        return values.sum() / np.sqrt(max(len(vectors) - 1, vectors.shape[1]))

    within = np.mean(
        [
            np.mean([spread(image[labels == c]) for c in np.unique(labels)])
            for image, labels in zip(features, assignment)
        ]
    )
    labels = assignment.reshape(-1)
    centres = np.stack([flat[labels == c].mean(0) for c in np.unique(labels)])
    distances = np.linalg.norm(flat[:, None] - centres, axis=2)
    distances[np.arange(len(flat)), labels] = np.inf
    over_all = np.mean([spread(flat[labels == c]) for c in np.unique(labels)])
    values = np.linalg.svd(flat, compute_uv=False)
    shares = values / values.sum()
    dimension = np.exp(-(shares * np.log(shares)).sum()) / min(flat.shape)
    return distances.min(1).mean() / size + dimension - 0.5 * (over_all + within) / size


def test_dse_by_hand():
    rng = np.random.default_rng(0)
    centres = np.eye(3, 10) + 0.1 * rng.normal(size=(3, 10))
    assignment = rng.permuted(np.repeat(np.arange(3), 8)[None].repeat(5, 0), axis=1)
    features = centres[assignment] + 0.02 * rng.normal(size=(5, 24, 10))
    features /= np.linalg.norm(features, axis=2, keepdims=True)
    found = dense_structure(torch.from_numpy(features), 3, 3 * 5)
    expected = dse_by_hand(features, assignment)
    # 15 clusters of 3 real ones: only the terms of one grouping can be told by hand.
    assert found != pytest.approx(expected, abs=1e-3)
    found = dense_structure(torch.from_numpy(features[:1]), 3, 3)
    assert found == pytest.approx(dse_by_hand(features[:1], assignment[:1]), abs=1e-5)


def test_dse_needs_no_mask_and_leaves_the_generators_alone():
    state = torch.get_rng_state()
    features = [torch.rand(6, 4, 4, generator=torch.Generator().manual_seed(i)) for i in range(5)]
    first = evaluated(DenseStructure(), [(f, {}) for f in features])
    assert torch.equal(torch.get_rng_state(), state)
    assert first == evaluated(DenseStructure(), [(f, {}) for f in features])
    assert first != evaluated(DenseStructure(images=3), [(f, {}) for f in features])
    for_fit = [(f, dict(fit=i > 2)) for i, f in enumerate(features)]
    assert evaluated(DenseStructure(), for_fit) == evaluated(
        DenseStructure(images=3), [(f, {}) for f in features]
    )
