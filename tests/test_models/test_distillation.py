"""Strategies are registered functions of encoded views."""

import pytest
import torch

from plrc_plugin.errors import SettingsError
from plrc_plugin.models import PLRC, Affinities, EncodedView, ViewBatch
from plrc_plugin.registry import STRATEGIES

TRUNK = dict(type='plrc_plugin.ResNet', depth=18, base_channels=4)


@pytest.mark.parametrize(
    'number, name',
    [
        (1, 'same_anchor_in_key_view'),
        (2, 'mixed_teacher'),
        (3, 'momentum_pass_of_query_view'),
    ],
)
def test_numbers_of_the_paper_are_aliases(number, name):
    assert STRATEGIES.get(str(number)) is STRATEGIES.get(name)
    assert PLRC(TRUNK, queue_size=4, strategy=name).strategy == name


def encoded(**fields):
    view = ViewBatch(
        image=torch.rand(2, 3, 32, 32),
        affine=torch.tensor([[0.5, 0, 0], [0, 0.5, 0]]).expand(2, 2, 3),
        points=torch.rand(2, 6, 2),
        regions=torch.tensor([[0, 1, 2, 3, 4, -1]]).expand(2, 6),
    )
    return EncodedView(view._replace(**fields), torch.rand(2, 8, 4, 4), torch.rand(2, 6, 8))


@pytest.mark.parametrize('number', [1, 2, 3])
def test_shapes_and_void_points(number):
    passes = []

    def encode_key(images):
        passes.append(images.shape)
        return torch.rand(2, 8, 4, 4)

    found = STRATEGIES.get(str(number))(encoded(), encoded(), encode_key)
    assert isinstance(found, Affinities) and len(passes) == (number == 3)
    assert all(points.shape == (2, 6, 8) for points in found[:4])
    assert found.valid[:, :5].all() and not found.valid[:, 5].any()
    assert not found.key_valid[:, 5].any()


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(SettingsError, match="mixed_teacher, 2, .* got 'mixed_techer'"):
        PLRC(TRUNK, queue_size=4, strategy='mixed_techer')
