"""L_c against Eq. 2 written as loops."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from plrc_plugin.losses import similarity
from plrc_plugin.losses.point_region_contrast import PointRegionContrast, point_region_contrast


def naive(queries, keys, query_regions, key_regions, temperature, inter_image=True, negatives=()):
    """Eq. 2, pair by pair, in Python floats."""
    per_image = []
    for b in range(len(queries)):
        terms = []
        for i in range(queries.shape[1]):
            denominator = sum(
                math.exp(float(queries[b, i] @ keys[c, j]) / temperature)
                for c in range(len(keys))
                for j in range(keys.shape[1])
                if key_regions[c, j] >= 0 and (inter_image or c == b)
            )
            denominator += sum(
                math.exp(float(queries[b, i] @ negative) / temperature)
                for negative in negatives
                if negative.norm() > 0
            )
            for k in range(keys.shape[1]):
                if query_regions[b, i] == key_regions[b, k] and query_regions[b, i] >= 0:
                    numerator = math.exp(float(queries[b, i] @ keys[b, k]) / temperature)
                    terms.append(-math.log(numerator / denominator))
        if terms:
            per_image.append(sum(terms) / len(terms))
    return sum(per_image) / len(per_image) if per_image else 0.0


def random_input(batch=3, num_queries=7, num_keys=5, dim=6, num_regions=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    queries = normalize(
        torch.randn(batch, num_queries, dim, generator=g, dtype=torch.double), dim=2
    )
    keys = normalize(torch.randn(batch, num_keys, dim, generator=g, dtype=torch.double), dim=2)
    query_regions = torch.randint(-1, num_regions, (batch, num_queries), generator=g)
    key_regions = torch.randint(-1, num_regions, (batch, num_keys), generator=g)
    return queries, keys, query_regions, key_regions


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('temperature', [0.07, 0.2, 1.0])
def test_equals_naive(seed, batch, temperature):
    queries, keys, query_regions, key_regions = random_input(batch, seed=seed)
    query_regions[-1] += 100  # no common region in the last image
    if seed == 1:
        key_regions[0] = -1  # an image that is void throughout
    if seed == 2:
        query_regions[0] = key_regions[0, 0].abs()  # one region only
    expected = naive(queries, keys, query_regions, key_regions, temperature)
    got = point_region_contrast(queries, keys, query_regions, key_regions, temperature)
    assert float(got) == pytest.approx(expected, rel=1e-6, abs=1e-12)
    single = point_region_contrast(
        queries.float(), keys.float(), query_regions, key_regions, temperature
    )
    assert float(single) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('temperature', [0.07, 0.2])
def test_negatives_of_the_same_image_only(seed, temperature):
    inputs = random_input(seed=seed)
    inputs[2][-1] += 100  # no common region in the last image
    if seed == 1:
        inputs[3][0] = -1
    expected = naive(*inputs, temperature, inter_image=False)
    got = point_region_contrast(*inputs, temperature, inter_image=False)
    assert float(got) == pytest.approx(expected, rel=1e-6)
    assert float(got) < naive(*inputs, temperature)


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('temperature', [0.07, 0.2])
def test_further_negatives_but_for_void_rows(seed, temperature):
    inputs = random_input(seed=seed)
    g = torch.Generator().manual_seed(seed + 50)
    negatives = normalize(torch.randn(9, 6, generator=g, dtype=torch.double), dim=1)
    negatives[[0, 4, 8]] = 0
    expected = naive(*inputs, temperature, negatives=negatives)
    got = point_region_contrast(*inputs, temperature, negatives=negatives)
    assert float(got) == pytest.approx(expected, rel=1e-6)
    assert float(got) > naive(*inputs, temperature)
    of_void = point_region_contrast(*inputs, temperature, negatives=negatives * 0)
    assert float(of_void) == pytest.approx(naive(*inputs, temperature), rel=1e-6)


def test_known_value():
    """Four orthogonal keys, the query equal to one: -log(e^5 / (e^5 + 3))."""
    keys = torch.eye(4, dtype=torch.double).unsqueeze(0)
    regions = torch.arange(4).unsqueeze(0)
    loss = point_region_contrast(keys[:, :1], keys, regions[:, :1], regions, 0.2)
    assert float(loss) == pytest.approx(-math.log(math.exp(5) / (math.exp(5) + 3)), rel=1e-6)


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize(
    'options',
    [{}, dict(inter_image=False), dict(negatives=torch.tensor([[0, 0, 0, 0], [0, 0, 0.6, 0.8]]))],
)
def test_gradients_are_numerical_ones(seed, options):
    queries, keys, query_regions, key_regions = random_input(2, 4, 3, 4, 2, seed)
    query_regions[1] = 50
    queries.requires_grad_()
    keys.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda q, k: point_region_contrast(q, k, query_regions, key_regions, 0.3, **options),
        (queries, keys),
    )


@pytest.mark.parametrize('size', [1, 5, 16, 10**9])
@pytest.mark.parametrize('temperature', [0.001, 0.2])  # logits beyond the range of exp
def test_equals_the_whole_matrix_whatever_the_tile(monkeypatch, size, temperature):
    queries, keys, *regions = random_input(4, 9, 8)
    flat = torch.cat([queries.flatten(0, 1), keys.flatten(0, 1)]).requires_grad_()
    valid = regions[1].flatten() >= 0
    logits = flat[:36] @ flat[36:].T / temperature
    expected = logits.masked_fill(~valid, -math.inf).logsumexp(1)
    (gradient,) = torch.autograd.grad(expected.sin().sum(), flat)
    monkeypatch.setattr(similarity, 'TILE_OF_CPU', size)
    got = similarity.similarity_logsumexp(flat[:36], flat[36:], temperature, valid)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(torch.autograd.grad(got.sin().sum(), flat)[0], gradient)


def test_no_common_region_keeps_the_graph_whole():
    queries, keys, query_regions, key_regions = random_input()
    queries.requires_grad_()
    loss = point_region_contrast(queries, keys, query_regions.abs(), key_regions.abs() + 9)
    loss.backward()
    assert loss == 0
    assert torch.equal(queries.grad, torch.zeros_like(queries))


def test_everything_void_is_zero_not_nan():
    queries, keys, query_regions, key_regions = random_input()
    queries.requires_grad_()
    loss = point_region_contrast(queries, keys, query_regions * 0 - 1, key_regions * 0 - 1)
    loss.backward()
    assert loss == 0 and not queries.grad.isnan().any()


def test_images_without_pairs_do_not_dilute_the_mean():
    queries, keys, query_regions, key_regions = (x[:2] for x in random_input())
    query_regions[0] = key_regions[0, 0] = 1
    query_regions[1] = 77
    # Only the pairs count: the second image is present as a source of negatives.
    expected = naive(queries[:1], keys, query_regions[:1], key_regions, 0.2)
    # naive() over one query image still needs both images' keys.
    both = point_region_contrast(queries, keys, query_regions, key_regions, 0.2)
    assert float(both) == pytest.approx(naive(queries, keys, query_regions, key_regions, 0.2))
    assert float(both) == pytest.approx(expected)


def test_half_precision_is_computed_in_single():
    inputs = random_input(dim=16)
    half = point_region_contrast(inputs[0].half(), inputs[1].half(), *inputs[2:], temperature=0.02)
    assert half.dtype == torch.float32
    exact = point_region_contrast(
        inputs[0].half().double(), inputs[1].half().double(), *inputs[2:], temperature=0.02
    )
    assert float(half) == pytest.approx(float(exact), rel=1e-5)


@pytest.mark.parametrize('temperature', [0, -1, float('nan')])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match='temperature must be positive'):
        PointRegionContrast(temperature)
    with pytest.raises(ValueError, match='temperature must be positive'):
        point_region_contrast(*random_input(), temperature=temperature)


def test_module_equals_function():
    inputs = random_input()
    assert torch.equal(PointRegionContrast(0.3)(*inputs), point_region_contrast(*inputs, 0.3))
