"""Ready configs of ConvNeXt, Swin and ViT trunks: built, filled from pre-training, and run."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from test_transfer_configs import ROOT

from plrc_plugin.checkpoints.input_style import InputStyle, check_style
from plrc_plugin.checkpoints.trunk import load_trunk, read_trunk
from plrc_plugin.registry import MODELS
from plrc_plugin.transfer.frozen import check_frozen


@pytest.mark.parametrize(
    'name, trunk, new',
    [
        (
            'mmdet/faster-rcnn_convnext-t-fpn_1x_coco.py',
            dict(type='plrc_plugin.TimmTrunk', name='convnext_tiny'),
            set(),
        ),
        (
            'mmdet/mask-rcnn_swin-t-fpn_1x_coco.py',
            dict(type='mmdet.SwinTransformer', out_indices=(3,)),
            {f'norm{i}.{kind}' for i in range(3) for kind in ('weight', 'bias')},
        ),
        (
            'mmdet/faster-rcnn_vit-s16_photos.py',
            dict(type='plrc_plugin.TimmTrunk', name='vit_small_patch16_224'),
            set(),
        ),
        (
            'mmseg/fcn_vit-s16_80k_ade20k-512x512.py',
            dict(type='plrc_plugin.TimmTrunk', name='vit_small_patch16_224'),
            set(),
        ),
    ],
)
def test_it_starts_from_the_pretrained_trunk(name, trunk, new, tmp_path):
    pytest.importorskip('timm')
    package = name.partition('/')[0]
    pytest.importorskip(f'{package}.models')
    registry = pytest.importorskip(f'{package}.registry')
    config = Config.fromfile(ROOT / 'configs' / name)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = registry.MODELS.build(config.model)
    torch.manual_seed(4)
    trained = MODELS.build(trunk)
    trained.eval()
    with torch.no_grad():
        for value in trained.parameters():
            value.add_(0.01 * torch.randn_like(value))
    state = trained.state_dict()
    torch.save(
        dict(state_dict={f'backbone.{key}': value for key, value in state.items()}),
        tmp_path / 'plrc.pth',
    )
    tensors, _ = read_trunk(tmp_path / 'plrc.pth', like=model.backbone.state_dict())
    (line,) = load_trunk(model, tensors)
    filled = model.backbone.state_dict()
    assert {key for key in filled if key not in state} == new
    assert all(torch.equal(filled[key], value) for key, value in state.items())
    assert ('new: ' in line) == bool(new)
    assert 'norm' in line if new else True
    assert check_frozen(model.backbone, tensors) == []
    style = getattr(model.backbone, 'input_style', InputStyle())
    assert 'RGB' in check_style('plrc.pth', None, style, model)
    images = torch.randn(1, 3, 64, 96)
    model.eval()
    with torch.no_grad():
        maps = model.backbone(images)
        expected = trained(images)[-1]
    last = maps[-1]
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)
    strides = [96 // features.shape[3] for features in maps]
    pyramid = 'fpn' in name
    assert strides == ([4, 8, 16, 32] if pyramid else [16])
    with torch.no_grad():
        assert len(model.extract_feat(images)) == (5 if pyramid else 1)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
    known = {id(p) for group in wrapper.optimizer.param_groups for p in group['params']}
    assert known == {id(parameter) for parameter in model.parameters()}
