"""DenseCL's objective against loops over positions."""

import math

import pytest
import torch
from torch.nn import functional as F

from plrc_plugin.losses.dense_contrast import dense_contrast, match_positions

B, S, T, C, D, K = 2, 5, 4, 6, 3, 7


def unit(*shape):
    return F.normalize(torch.randn(*shape, dtype=torch.double), dim=-1)


def test_matches_are_the_most_similar_positions():
    query, key = torch.randn(B, S, C) * 5, torch.randn(B, T, C) * 5
    got = match_positions(query, key)
    for b in range(B):
        for i in range(S):
            cosines = [F.cosine_similarity(query[b, i], key[b, j], dim=0) for j in range(T)]
            assert got[b, i] == max(range(T), key=lambda j: cosines[j])


def test_loss_and_gradient_position_by_position():
    queries, keys, negatives = unit(B, S, D).requires_grad_(), unit(B, T, D), unit(K, D)
    matches = torch.randint(T, (B, S))
    loss = dense_contrast(queries, keys, matches, negatives, temperature=0.3)
    expected = 0
    for b in range(B):
        for i in range(S):
            positive = (queries[b, i] @ keys[b, matches[b, i]] / 0.3).exp()
            total = positive + sum((queries[b, i] @ n / 0.3).exp() for n in negatives)
            expected = expected - (positive / total).log() / (B * S)
    torch.testing.assert_close(loss, expected)
    (got,) = torch.autograd.grad(loss, queries)
    torch.testing.assert_close(got, torch.autograd.grad(expected, queries)[0])


def test_perfect_match_against_orthogonal_negatives():
    queries = torch.eye(4)[None, :1]
    loss = dense_contrast(
        queries, queries, torch.zeros(1, 1, dtype=torch.long), torch.eye(4)[1:], temperature=1.0
    )
    assert loss == pytest.approx(-math.log(math.e / (math.e + 3)))
    with pytest.raises(ValueError, match='temperature'):
        dense_contrast(queries, queries, torch.zeros(1, 1, dtype=torch.long), torch.eye(4), 0)
