"""Models are built under any default scope, with backbones of any package."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

import plrc_plugin  # noqa: F401


@pytest.mark.parametrize('scope', ['mmengine', 'a_third_party'])
def test_builds_under_any_default_scope(scope):
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(
            dict(
                type='plrc_plugin.PLRC',
                queue_size=8,
                backbone=dict(type='plrc_plugin.ResNet', depth=18, base_channels=4),
            )
        )
    assert type(model).__name__ == 'PLRC'


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_backbones_of_other_packages(scope):
    pytest.importorskip(scope)
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(
            dict(
                type='plrc_plugin.PLRC',
                queue_size=8,
                backbone=dict(
                    type='mmdet.ResNet',
                    depth=18,
                    base_channels=8,
                    norm_eval=False,
                    num_stages=4,
                    out_indices=(1, 3),
                ),
            )
        )
    model.init_weights()
    ours = dict(type='plrc_plugin.ResNet', depth=18, base_channels=8)
    assert set(MODELS.build(ours).state_dict()) == set(model.backbone.state_dict())
    assert torch.equal(model.backbone.conv1.weight, model.momentum_backbone.conv1.weight)
