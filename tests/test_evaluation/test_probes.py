"""Probes against loops over samples and neighbours, and on problems with a known answer."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from plrc_plugin.evaluation.affinity_quality import image_quality
from plrc_plugin.evaluation.linear_probe import class_iou, confusion_matrix, fit_linear
from plrc_plugin.evaluation.probes import (
    AffinityQuality,
    ImageClassificationProbe,
    KNNSegmentationProbe,
    LinearSegmentationProbe,
    knn_labels,
)


def clusters(count, spread=0.3, seed=0, classes=3, channels=5):
    """Vectors around one centre per class, on scales that differ by channel."""
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(0, classes, count))
    centres = torch.from_numpy(np.random.default_rng(99).normal(size=(classes, channels)))
    noise = torch.from_numpy(rng.normal(size=(count, channels))) * spread
    return ((centres[labels] + noise) * torch.logspace(-3, 3, channels)).float(), labels


def test_linear_probe_separates_what_is_separable_and_not_chance():
    features, labels = clusters(2000)
    queries, truth = clusters(500, seed=1)
    layer = fit_linear(features, labels, 3)
    assert (layer(queries).argmax(1) == truth).float().mean() > 0.97
    mixed = labels[torch.randperm(len(labels))]
    assert (fit_linear(features, mixed, 3)(queries).argmax(1) == truth).float().mean() < 0.6
    assert torch.equal(layer.weight, fit_linear(features, labels, 3).weight)


def test_linear_probe_is_the_optimum_of_the_standardised_problem():
    # At the optimum of a convex loss the gradient is zero; the classes overlap.
    features, labels = clusters(3000, spread=1.5)
    kept = (labels > 0) | (torch.rand(len(labels)) < 0.2)  # one class is rare
    features, labels = features[kept], labels[kept]
    layer = fit_linear(features, labels, 3, weight_decay=1e-2)
    scale = features.std(0).double()
    z = (features.double() - features.mean(0)) / scale
    weight = (layer.weight * scale).requires_grad_()
    bias = (layer.bias + layer.weight @ features.mean(0)).double().requires_grad_()
    weights = torch.tensor([(labels == c).sum().item() for c in range(3)]).double() ** -0.5
    weights = weights[labels] / weights[labels].sum()
    losses = F.cross_entropy(z @ weight.T + bias, labels, reduction='none')
    loss = (losses * weights).sum() + 5e-3 * weight.square().sum()
    loss.backward()
    assert weight.grad.abs().max() < 1e-4 and bias.grad.abs().max() < 1e-4
    assert 0.1 < loss < 1


def test_constant_channels_are_ignored():
    features, labels = clusters(300)
    features = torch.cat([features, torch.full((300, 1), 7.0)], 1)
    layer = fit_linear(features, labels, 3)
    features[:, -1] = 1e9
    assert torch.isfinite(layer.weight).all() and not layer.weight[:, -1].any()


def test_iou_by_loops():
    rng = np.random.default_rng(0)
    predicted, truth = rng.integers(0, 4, (2, 200))
    truth[truth == 3] = 0
    expected = [
        sum((predicted == c) & (truth == c)) / sum((predicted == c) | (truth == c))
        for c in range(4)
    ]
    iou = class_iou(confusion_matrix(torch.from_numpy(predicted), torch.from_numpy(truth), 5))
    np.testing.assert_allclose(iou[:4], expected)
    assert torch.isnan(iou[4])


def naive_knn(query, bank, labels, num_classes, k):
    cosines = [F.cosine_similarity(query, other, dim=0).item() for other in bank]
    votes = [0.0] * num_classes
    for i in sorted(range(len(bank)), key=lambda i: -cosines[i])[:k]:
        votes[labels[i]] += np.exp(cosines[i] / 0.07)
    return int(np.argmax(votes))


def test_nearest_neighbours_by_brute_force():
    bank, labels = torch.randn(40, 3), torch.randint(0, 3, (40,))
    queries = torch.randn(25, 3)
    expected = [naive_knn(q, bank, labels, 3, 7) for q in queries]
    assert knn_labels(queries, bank, labels, 3, 7, chunk=10).tolist() == expected
    assert len(set(expected)) == 3


def batch(images=24, cells=4, seed=0):
    """Features (B, 5, g, g) and their truth: two objects of clustered features each."""
    rng = np.random.default_rng(seed)
    semantic = torch.from_numpy(
        rng.integers(0, 3, (images, cells // 2, cells // 2)).repeat(2, 1).repeat(2, 2)
    )
    centres = torch.from_numpy(np.random.default_rng(99).normal(size=(3, 5)))
    features = centres[semantic] + 0.3 * torch.from_numpy(rng.normal(size=(*semantic.shape, 5)))
    semantic = semantic.clone()
    semantic[:, 0, 0] = -1
    fit = torch.arange(images) % 3 > 0
    truth = dict(semantic=semantic, instances=semantic, fit=fit)
    return features.permute(0, 3, 1, 2).float(), truth


def evaluate(probe, features, data):
    probe.dataset_meta = dict(classes=('background', 'a', 'b'))
    for part in torch.arange(len(features)).split(7):
        probe.process({name: value[part] for name, value in data.items()}, features[part])
    return probe.evaluate(len(features))


def test_segmentation_metrics_fit_and_score_on_their_own_images():
    features, data = batch()
    scores = evaluate(LinearSegmentationProbe(drawn=100, seeds=2), features, data)
    fit, valid = data['fit'][:, None, None], data['semantic'] >= 0
    vectors, labels = features.permute(0, 2, 3, 1), data['semantic']
    x, y = vectors[fit & valid], labels[fit & valid]
    u, v = vectors[~fit & valid], labels[~fit & valid]
    ious = []
    for seed in (0, 1):
        drawn = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))[:100]
        predicted = fit_linear(x[drawn], y[drawn], 3)(u).argmax(1)
        ious.append(100 * class_iou(confusion_matrix(predicted, v, 3)).mean().item())
    assert scores['linear_seg/mIoU'] == pytest.approx(np.mean(ious))
    assert scores['linear_seg/mIoU_spread'] == pytest.approx(np.std(ious))
    scores = evaluate(KNNSegmentationProbe(k=5), features, data)
    predicted = torch.tensor([naive_knn(q, x, y, 3, 5) for q in u])
    expected = 100 * class_iou(confusion_matrix(predicted, v, 3)).mean().item()
    assert scores['knn_seg/mIoU'] == pytest.approx(expected)
    assert scores['knn_seg/accuracy'] == pytest.approx(100 * (predicted == v).float().mean().item())
    # Labels of the images to score on play no part in the fit: wrong ones cannot score well.
    data['semantic'] = torch.where(fit | ~valid, labels, (labels + 1) % 3)
    assert evaluate(LinearSegmentationProbe(), features, data)['linear_seg/mIoU'] < 10


def test_affinity_metric_averages_over_scored_images_and_their_objects():
    features, data = batch()
    scored = [
        image_quality(f, s, i)
        for f, s, i, fit in zip(features, data['semantic'], data['instances'], data['fit'])
        if not fit
    ]
    found = evaluate(AffinityQuality(), features, data)
    aucs = [q['auc'] for q in scored if q['auc'] is not None]
    assert found['affinity/auc'] == pytest.approx(np.mean(aucs))
    assert found['affinity/iou'] == pytest.approx(np.mean([v for q in scored for v in q['iou']]))
    assert set(found) == {f'affinity/{name}' for name in scored[0]}


def test_classification_takes_the_main_class():
    labels = torch.tensor([[[0, 0], [0, 1]], [[2, 2], [1, -1]], [[0, -1], [0, 0]]]).repeat(20, 1, 1)
    main = torch.tensor([1, 2, 0]).repeat(20)
    features = torch.eye(3)[main][:, :, None, None] + 0.1 * torch.randn(60, 3, 2, 2)
    data = dict(semantic=labels, fit=torch.arange(60) < 30)
    probe = ImageClassificationProbe(k=3)
    assert evaluate(probe, features, data) == {'classify/linear': 100, 'classify/knn': 100}
    # Images of background alone are no samples.
    assert len(probe.samples(features[2], labels[2])[1]) == 0
