"""Trunks of every library are divided into a stem and stages."""

import pytest

from plrc_plugin.models.stages import stages_of
from plrc_plugin.registry import MODELS


def starts(stages):
    """The prefixes of each stage's parameters, without repetition."""
    return [list(dict.fromkeys(name.rsplit('.', 1)[0] for name in stage)) for stage in stages]


@pytest.mark.parametrize(
    'cfg, stem, count, last',
    [
        (dict(type='plrc_plugin.ResNet', depth=18, base_channels=4), 'conv1', 5, 'layer4'),
        (dict(type='plrc_plugin.TorchvisionTrunk', name='resnet18'), 'conv1', 5, 'layer4'),
        (
            dict(type='plrc_plugin.TorchvisionTrunk', name='convnext_tiny'),
            'features.0.',
            5,
            'features.7',
        ),
        (dict(type='plrc_plugin.TorchvisionTrunk', name='swin_t'), 'features.0.', 5, 'features.7'),
        (
            dict(type='plrc_plugin.TorchvisionTrunk', name='regnet_y_400mf'),
            'stem.',
            5,
            'trunk_output.block4',
        ),
        (
            dict(type='plrc_plugin.TorchvisionTrunk', name='densenet121'),
            'features.conv0',
            5,
            'features.denseblock4',
        ),
        (
            dict(type='plrc_plugin.TorchvisionTrunk', name='efficientnet_b0'),
            'features.0.',
            9,
            'features.8',
        ),
    ],
)
def test_trunks_of_torchvision(cfg, stem, count, last):
    check(cfg, stem, count, last)


@pytest.mark.parametrize(
    'name, stem, count, last',
    [
        ('resnet18', 'conv1', 5, 'layer4'),
        ('convnext_atto', 'stem', 5, 'stages.3'),
        ('swin_tiny_patch4_window7_224', 'patch_embed', 5, 'layers.3'),
        ('vit_tiny_patch16_224', 'cls_token', 13, 'blocks.11'),
        ('vit_small_patch14_reg4_dinov2', 'cls_token', 13, 'blocks.11'),
        ('tf_efficientnet_lite0', 'conv_stem', 8, 'blocks.6'),
        ('regnety_002', 'stem', 5, 's4'),
    ],
)
def test_trunks_of_timm(name, stem, count, last):
    pytest.importorskip('timm')
    check(dict(type='plrc_plugin.TimmTrunk', name=name), stem, count, last)


@pytest.mark.parametrize(
    'cfg, stem, count, last',
    [
        (dict(type='mmdet.ResNet', depth=18), 'conv1', 5, 'layer4'),
        (dict(type='mmdet.SwinTransformer'), 'patch_embed', 5, 'stages.3'),
    ],
)
def test_trunks_of_mmdet(cfg, stem, count, last):
    pytest.importorskip('mmdet.models')
    check(cfg, stem, count, last)


def check(cfg, stem, count, last):
    trunk = MODELS.build(cfg)
    stages = stages_of(trunk)
    names = [name for stage in stages for name in stage]
    assert sorted(names) == sorted(name for name, _ in trunk.named_parameters())
    assert len(stages) == count
    assert stages[0][0].startswith(stem)
    assert all(stages)
    assert stages[-1][0].startswith(last) or any(n.startswith(last) for n in stages[-1])
    # A stage has nothing of another: what only the last has is in the last.
    assert not any(name.startswith(last) for stage in stages[:-1] for name in stage)


def test_what_halves_the_map_belongs_to_the_stage_behind_it():
    stages = stages_of(MODELS.build(dict(type='plrc_plugin.TorchvisionTrunk', name='swin_t')))
    assert any(name.startswith('features.2.reduction') for name in stages[2])
    trunk = MODELS.build(dict(type='plrc_plugin.TorchvisionTrunk', name='convnext_tiny'))
    assert any(name.startswith('features.4.') for name in stages_of(trunk)[3])
