"""L_m against lightly's NTXentLoss with a memory bank."""

import pytest
import torch
from lightly.loss import NTXentLoss
from torch.nn.functional import normalize

from plrc_plugin.losses.image_contrast import image_contrast


@pytest.mark.parametrize('temperature', [0.07, 0.2])
def test_equals_lightly(temperature):
    reference = NTXentLoss(temperature, memory_bank_size=(32, 8))
    queries = torch.randn(5, 8, requires_grad=True)
    keys = normalize(torch.randn(5, 8), dim=1)
    negatives = reference.memory_bank.bank.clone()
    loss, _ = image_contrast(normalize(queries, dim=1), keys, negatives, temperature)
    expected = reference(queries, keys)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss, queries)[0], torch.autograd.grad(expected, queries)[0]
    )


def test_top1_is_the_share_of_nearest_own_keys():
    keys = torch.eye(4)[:2]
    negatives = torch.eye(4)[2:]
    queries = torch.stack([keys[0], negatives[0]])
    _, top1 = image_contrast(queries, keys, negatives)
    assert top1 == 0.5


@pytest.mark.parametrize('temperature', [0.07, 0.2])
def test_equals_a_loop(temperature):
    queries = normalize(torch.randn(4, 6), dim=1).requires_grad_()
    keys, negatives = normalize(torch.randn(4, 6), dim=1), normalize(torch.randn(9, 6), dim=1)
    terms = []
    for query, key in zip(queries, keys):
        positive = (query @ key / temperature).exp()
        others = sum((query @ negative / temperature).exp() for negative in negatives)
        terms.append(-(positive / (positive + others)).log())
    expected = sum(terms) / 4
    loss, _ = image_contrast(queries, keys, negatives, temperature)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss, queries)[0],
        torch.autograd.grad(expected, queries)[0],
        rtol=1e-4,
        atol=1e-6,
    )


def test_own_keys_are_no_negatives():
    """Against a loop over the negatives that are left."""
    queries, keys, negatives = (
        normalize(torch.randn(n, 8, dtype=torch.double), dim=1) for n in (3, 3, 10)
    )
    own = torch.rand(3, 10) < 0.4
    loss, top1 = image_contrast(queries, keys, negatives, 0.2, own)
    total, nearest = 0, 0
    for b in range(3):
        left = negatives[~own[b]]
        logits = torch.cat([keys[b : b + 1], left]) @ queries[b] / 0.2
        total -= logits.log_softmax(0)[0]
        nearest += bool(logits.argmax() == 0)
    torch.testing.assert_close(loss, total / 3)
    assert top1 == pytest.approx(nearest / 3)
