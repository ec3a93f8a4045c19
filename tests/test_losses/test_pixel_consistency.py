"""PixPro's objective against loops over pairs."""

import pytest
import torch
from torch.nn import functional as F

from plrc_plugin.losses.pixel_consistency import PixelConsistency, near_pairs, pixel_consistency

B, S, T, D = 3, 5, 4, 6


def test_near_pairs_one_by_one():
    positions, others = torch.rand(B, S, 2) * 300, torch.rand(B, T, 2) * 300
    diagonals, other_diagonals = torch.rand(B) * 150 + 50, torch.rand(B) * 150 + 50
    got = near_pairs(positions, diagonals, others, other_diagonals, 0.7)
    assert got.any() and not got.all()
    for b in range(B):
        larger = max(diagonals[b], other_diagonals[b])
        for i in range(S):
            for j in range(T):
                x, y = (positions[b, i] - others[b, j]).tolist()
                assert got[b, i, j] == ((x * x + y * y) ** 0.5 / larger < 0.7)


def test_loss_and_gradient_pair_by_pair():
    queries = F.normalize(torch.randn(B, S, D, dtype=torch.double), dim=2).requires_grad_()
    keys = F.normalize(torch.randn(B, T, D, dtype=torch.double), dim=2)
    pairs = torch.rand(B, S, T) < 0.4
    pairs[1] = False
    images = []
    for b in (0, 2):
        cosines = [queries[b, i] @ keys[b, j] for i in range(S) for j in range(T) if pairs[b, i, j]]
        images.append(-sum(cosines) / len(cosines))
    expected = sum(images) / 2
    for loss in (pixel_consistency(queries, keys, pairs), PixelConsistency()(queries, keys, pairs)):
        torch.testing.assert_close(loss, expected)
        (got,) = torch.autograd.grad(loss, queries)
        torch.testing.assert_close(
            got, torch.autograd.grad(expected, queries, retain_graph=True)[0]
        )


def test_no_pair_is_zero_with_zero_gradient():
    queries = torch.randn(2, 3, 4, requires_grad=True)
    loss = pixel_consistency(queries, torch.randn(2, 3, 4), torch.zeros(2, 3, 3, dtype=torch.bool))
    loss.backward()
    assert loss == 0 and (queries.grad == 0).all()
    same = F.normalize(torch.randn(1, 3, 4), dim=2)
    assert pixel_consistency(same, same, torch.eye(3, dtype=torch.bool)[None]) == pytest.approx(-1)
