"""Global randomness is a function of seed, iteration and rank."""

import random

import numpy as np
import pytest
import torch

from plrc_plugin.engine.seeding import seed_iteration


def draws(*key):
    seed_iteration(*key)
    return random.random(), np.random.random(), torch.rand(()).item()


@pytest.mark.parametrize('other', [(1, 2, 0), (0, 3, 0), (0, 2, 1)])
def test_equal_keys_draw_alike_and_others_do_not(other):
    first = draws(0, 2, 0)
    assert all(a != b for a, b in zip(first, draws(*other)))
    assert draws(0, 2, 0) == first
