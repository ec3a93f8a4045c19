"""Learning rates that fall towards the stem, for trunks and optimisers of every kind."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper

from plrc_plugin.errors import SettingsError
from plrc_plugin.models import MomentumContrast
from plrc_plugin.models.stages import stages_of


def build(net, optimizer=None, **paramwise):
    optimizer = optimizer or dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4)
    cfg = dict(
        optimizer=optimizer, constructor='plrc_plugin.LayerwiseRates', paramwise_cfg=paramwise
    )
    return build_optim_wrapper(net, cfg)


def model(backbone, **kwargs):
    return MomentumContrast(backbone, embedding_dim=8, queue_size=8, **kwargs)


def rates(net, wrapper):
    """Learning rate by parameter name."""
    names = {parameter: name for name, parameter in net.named_parameters()}
    return {names[p]: group['lr'] for group in wrapper.param_groups for p in group['params']}


TRUNKS = [
    dict(type='plrc_plugin.ResNet', depth=18, base_channels=4),
    dict(type='plrc_plugin.TorchvisionTrunk', name='convnext_tiny'),
    dict(type='plrc_plugin.TorchvisionTrunk', name='swin_t'),
    dict(type='plrc_plugin.TimmTrunk', name='vit_tiny_patch16_224'),
    dict(type='plrc_plugin.TimmTrunk', name='resnet18'),
]


@pytest.mark.parametrize('backbone', TRUNKS, ids=lambda cfg: cfg.get('name', cfg['type']))
@pytest.mark.parametrize('kind', ['SGD', 'AdamW'])
def test_each_stage_learns_more_slowly_than_the_one_after_it(backbone, kind):
    if backbone['type'].endswith('TimmTrunk'):
        pytest.importorskip('timm')
    net = model(backbone)
    wrapper = build(net, dict(type=kind, lr=0.1, weight_decay=0.05), layer_decay=0.5)
    found = rates(net, wrapper)
    assert set(found) == {name for name, p in net.named_parameters() if p.requires_grad}
    stages = stages_of(net.backbone)
    for place, names in enumerate(stages):
        for name in names:
            assert found[f'backbone.{name}'] == pytest.approx(0.1 * 0.5 ** (len(stages) - place))
    assert all(rate == 0.1 for name, rate in found.items() if name.startswith('projector'))
    assert len(wrapper.param_groups) == len(stages) + 1
    assert isinstance(wrapper.optimizer, getattr(torch.optim, kind))


def test_other_options_hold_and_frozen_stages_are_left_out():
    net = model(TRUNKS[0], keep=dict(frozen_stages=1))
    wrapper = build(
        net,
        layer_decay=0.5,
        norm_decay_mult=0,
        custom_keys={'projector': dict(lr_mult=10)},
    )
    found = rates(net, wrapper)
    parts = {name.split('.')[1] for name in found if name.startswith('backbone')}
    assert parts == {'layer2', 'layer3', 'layer4'}
    assert found['projector.0.weight'] == pytest.approx(1.0)
    decay = {p: group['weight_decay'] for group in wrapper.param_groups for p in group['params']}
    assert decay[net.backbone.layer4[0].bn1.weight] == 0
    assert decay[net.backbone.layer4[0].conv1.weight] == 1e-4


@pytest.mark.parametrize('decay', [None, 0, 1.5, '0.7'])
def test_a_decay_that_cannot_work(decay):
    paramwise = {} if decay is None else dict(layer_decay=decay)
    with pytest.raises(SettingsError, match='layer_decay must be a factor'):
        build(model(TRUNKS[0]), **paramwise)
