"""L_a against Eq. 3 and 4 written as loops."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from plrc_plugin.errors import SettingsError
from plrc_plugin.losses.point_affinity_distillation import (
    PointAffinityDistillation,
    point_affinity,
    point_affinity_distillation,
)


def naive_affinity(query, keys, key_valid, temperature):
    exps = [
        math.exp(float(query @ k) / temperature) if ok else 0.0 for k, ok in zip(keys, key_valid)
    ]
    return [e / sum(exps) for e in exps]


def naive(sq, sk, tq, tk, valid, student_temperature, teacher_temperature, key_valid=None):
    per_image = []
    for b in range(len(sq)):
        usable = [True] * sk.shape[1] if key_valid is None else key_valid[b].tolist()
        terms = []
        for i in range(sq.shape[1]):
            if not valid[b, i] or not any(usable):
                continue
            student = naive_affinity(sq[b, i], sk[b], usable, student_temperature)
            teacher = naive_affinity(tq[b, i], tk[b], usable, teacher_temperature)
            terms.append(-sum(t * math.log(s) for t, s, ok in zip(teacher, student, usable) if ok))
        if terms:
            per_image.append(sum(terms) / len(terms))
    return sum(per_image) / len(per_image) if per_image else 0.0


def random_input(batch=3, num_queries=6, num_keys=5, dim=4, seed=0):
    g = torch.Generator().manual_seed(seed)

    def points(count):
        return normalize(torch.randn(batch, count, dim, generator=g, dtype=torch.double), dim=2)

    valid = torch.rand(batch, num_queries, generator=g) < 0.6
    key_valid = torch.rand(batch, num_keys, generator=g) < 0.6
    return (
        points(num_queries),
        points(num_keys),
        points(num_queries),
        points(num_keys),
        valid,
        key_valid,
    )


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('masks_keys', [False, True])
def test_equals_naive(seed, batch, masks_keys):
    *inputs, key_valid = random_input(batch, seed=seed)
    if seed == 1:
        inputs[4][0] = False  # an image without overlap
    if seed == 2:
        key_valid[0] = False
    key_valid = key_valid if masks_keys else None
    expected = naive(*inputs, 0.1, 0.07, key_valid)
    got = point_affinity_distillation(*inputs, 0.1, 0.07, key_valid)
    assert float(got) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_gradients_are_numerical_ones_and_none_reaches_the_teacher():
    *inputs, key_valid = random_input(2, 3, 4, 3)
    inputs = [x.requires_grad_() if x.is_floating_point() else x for x in inputs]
    assert torch.autograd.gradcheck(
        lambda sq, sk: point_affinity_distillation(sq, sk, *inputs[2:], key_valid=key_valid),
        inputs[:2],
    )
    point_affinity_distillation(*inputs).backward()
    assert inputs[0].grad.abs().sum() > 0 and inputs[1].grad.abs().sum() > 0
    assert inputs[2].grad is None and inputs[3].grad is None


def test_least_where_student_equals_teacher():
    """Cross entropy is bounded below by the teacher's entropy, reached by an equal student."""
    sq, sk, tq, tk, _, _ = random_input()
    valid = torch.ones(sq.shape[:2], dtype=torch.bool)
    log_teacher = point_affinity(tq, tk, 0.1)
    entropy = -(log_teacher.exp() * log_teacher).sum(2).mean()
    equal = point_affinity_distillation(tq, tk, tq, tk, valid, 0.1, 0.1)
    assert float(equal) == pytest.approx(float(entropy), rel=1e-9)
    assert point_affinity_distillation(sq, sk, tq, tk, valid, 0.1, 0.1) > equal


@pytest.mark.parametrize('void', ['anchors', 'keys'])
def test_nothing_valid_is_zero_and_keeps_the_graph(void):
    *inputs, key_valid = random_input()
    inputs[0].requires_grad_()
    if void == 'anchors':
        inputs[4][:] = False
    else:
        key_valid[:] = False
    loss = point_affinity_distillation(*inputs, key_valid=key_valid)
    loss.backward()
    assert loss == 0
    assert torch.equal(inputs[0].grad, torch.zeros_like(inputs[0]))


@pytest.mark.parametrize('setting', ['student_temperature', 'teacher_temperature'])
def test_temperatures_must_be_positive(setting):
    with pytest.raises(ValueError, match=f'{setting} must be positive'):
        PointAffinityDistillation(**{setting: 0})


def test_module_equals_function():
    *inputs, key_valid = random_input()
    module = PointAffinityDistillation(0.2, 0.05)
    assert torch.equal(
        module(*inputs, key_valid), point_affinity_distillation(*inputs, 0.2, 0.05, key_valid)
    )


@pytest.mark.parametrize('name', ['student_temperature', 'teacher_temperature'])
@pytest.mark.parametrize('value', [0, -1, 'x'])
def test_the_setting_that_cannot_work_is_named(name, value):
    with pytest.raises(SettingsError, match=f'PointAffinityDistillation: {name} must be positive'):
        PointAffinityDistillation(**{name: value})
