"""Every trunk that can be pre-trained leaves for its library, which gives the same features."""

import copy
import runpy
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from plrc_plugin.checkpoints.export import export_parts, export_trunk
from plrc_plugin.checkpoints.input_style import InputStyle
from plrc_plugin.checkpoints.trunk import fill_model, find_trunk, read_file, read_trunk
from plrc_plugin.errors import SettingsError
from plrc_plugin.models import PLRC
from plrc_plugin.registry import MODELS

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'export_checkpoint.py'
VIT = dict(
    type='plrc_plugin.TimmTrunk',
    name='vit_tiny_patch16_224',
    img_size=64,
    embed_dim=24,
    depth=2,
    num_heads=3,
    dynamic_img_size=False,
)


def trained(cfg):
    """A trunk whose norms have statistics of their own."""
    torch.manual_seed(0)
    trunk = MODELS.build(cfg)
    with torch.no_grad():
        for name, value in trunk.named_parameters():
            value.add_(0.1 * torch.randn_like(value) * ('norm' in name or 'bias' in name))
        for _ in range(2):
            trunk(torch.randn(2, 3, 64, 64))
    return trunk.eval()


def exported(trunk, target, tmp_path):
    """What the target's file holds, by way of a checkpoint of pre-training."""
    state = {f'backbone.{key}': value for key, value in trunk.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'plrc.pth')
    tensors, _ = read_trunk(tmp_path / 'plrc.pth')
    export_trunk(tensors, tmp_path / 'out.pth', target)
    return torch.load(tmp_path / 'out.pth', weights_only=True)


def load(model, state, missing):
    """Fills a model of a library: only what classification uses may lack."""
    lacking, strange = model.load_state_dict(state, strict=False)
    assert not strange and all(name.startswith(missing) for name in lacking), (lacking, strange)
    return model.eval()


def close(features, expected):
    assert features.shape == expected.shape
    assert (features - expected).abs().max() <= 1e-5 * expected.abs().max()


IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('name', ['resnext50_32x4d', 'wide_resnet50_2', 'resnet18'])
@pytest.mark.parametrize('target', ['torchvision', 'timm', 'mmdet'])
def test_resnets_of_torchvision(name, target, tmp_path):
    trunk = trained(dict(type='plrc_plugin.TorchvisionTrunk', name=name))
    state = exported(trunk, target, tmp_path)
    model = torchvision.models.get_model(name)
    load(model, state['state_dict'] if target == 'mmdet' else state, ('fc.',))
    children = list(model.children())[:-2]
    with torch.no_grad():
        close(nn.Sequential(*children)(IMAGES), trunk(IMAGES)[0])


@pytest.mark.parametrize(
    'name, head',
    [
        ('convnext_tiny', 'classifier.'),
        ('swin_t', 'head.'),
        ('regnet_y_400mf', 'fc.'),
        ('mobilenet_v3_small', 'classifier.'),
    ],
)
def test_models_of_torchvision_by_their_own_names(name, head, tmp_path):
    trunk = trained(dict(type='plrc_plugin.TorchvisionTrunk', name=name))
    model = torchvision.models.get_model(name)
    load(model, exported(trunk, 'torchvision', tmp_path), (head,))
    with torch.no_grad():
        if name == 'regnet_y_400mf':
            features = model.trunk_output(model.stem(IMAGES))
        elif name == 'swin_t':
            features = model.permute(model.norm(model.features(IMAGES)))
        else:
            features = model.features(IMAGES)
        close(features, trunk(IMAGES)[0])
    if name != 'mobilenet_v3_small':
        with pytest.raises(SettingsError, match='whose names timm does not know'):
            exported(trunk, 'timm', tmp_path)


@pytest.mark.parametrize(
    'name, head',
    [
        ('tf_efficientnet_lite0', ('conv_head.', 'bn2.', 'classifier.')),
        ('convnext_atto', ('head.',)),
        ('resnet18d', ('fc.',)),
        ('seresnet18', ('fc.',)),
        ('regnety_002', ('head.',)),
        ('swin_s3_tiny_224', ('head.',)),
        ('vit_tiny_patch16_224', ('head.',)),
        ('vit_small_patch14_reg4_dinov2', ('head.',)),
    ],
)
def test_models_of_timm_by_their_own_names(name, head, tmp_path):
    timm = pytest.importorskip('timm')
    vit = 'vit' in name
    options = dict(img_size=64 if '16' in name else 56) if vit else {}
    if name.startswith('swin'):
        options = dict(img_size=224)
    trunk = MODELS.build(dict(type='plrc_plugin.TimmTrunk', name=name, **options)).eval()
    model = timm.create_model(name, **options)
    load(model, exported(trunk, 'timm', tmp_path), head)
    images = torch.randn(1, 3, *[options.get('img_size', 64)] * 2)
    with torch.no_grad():
        if name.startswith('tf_'):
            model.conv_head = model.bn2 = nn.Identity()
        features = model.forward_features(images)
        if vit:
            tokens = features[:, model.num_prefix_tokens :]
            side = int(tokens.shape[1] ** 0.5)
            features = tokens.transpose(1, 2).unflatten(2, (side, side))
        elif name.startswith('swin'):
            features = features.permute(0, 3, 1, 2)
        close(features, trunk(images)[0])


def test_a_vision_transformer_of_torchvision(tmp_path):
    pytest.importorskip('timm')
    trunk = trained(VIT)
    model = torchvision.models.VisionTransformer(64, 16, 2, 3, 24, 96)
    load(model, exported(trunk, 'torchvision', tmp_path), ('heads.',))
    with torch.no_grad():
        tokens = model._process_input(IMAGES)
        tokens = model.encoder(torch.cat([model.class_token.expand(2, -1, -1), tokens], 1))
        features = tokens[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
        close(features, trunk(IMAGES)[0])


def test_a_vision_transformer_of_mmseg(tmp_path):
    pytest.importorskip('timm')
    pytest.importorskip('mmseg.models')
    from mmseg.models.backbones.vit import VisionTransformer

    trunk = trained(VIT)
    model = VisionTransformer(
        img_size=64,
        embed_dims=24,
        num_layers=2,
        num_heads=3,
        patch_bias=True,
        final_norm=True,
        norm_cfg=dict(type='LN', eps=1e-6),
    )
    load(model, exported(trunk, 'mmseg', tmp_path)['state_dict'], ())
    with torch.no_grad():
        close(model(IMAGES)[-1], trunk(IMAGES)[0])


def test_a_vision_transformer_of_mmpretrain(tmp_path):
    pytest.importorskip('timm')
    pytest.importorskip('mmpretrain.models')
    from mmpretrain.models import VisionTransformer

    trunk = trained(VIT)
    arch = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=96)
    model = VisionTransformer(arch=arch, img_size=64, patch_size=16, out_type='featmap')
    state = exported(trunk, 'mmpretrain', tmp_path)['state_dict']
    load(model, {name.removeprefix('backbone.'): value for name, value in state.items()}, ())
    with torch.no_grad():
        close(model(IMAGES)[-1], trunk(IMAGES)[0])


@pytest.mark.parametrize('kind', ['ResNetV1d', 'ResNetV1c'])
def test_deep_stems_of_openmmlab_go_to_timm(kind, tmp_path):
    timm = pytest.importorskip('timm')
    backbones = pytest.importorskip('mmdet.models').backbones
    cfg = dict(depth=18, out_indices=(3,), norm_eval=False)
    if kind == 'ResNetV1c':
        cfg.update(deep_stem=True, avg_down=False)
    trunk = (backbones.ResNetV1d if kind == 'ResNetV1d' else backbones.ResNet)(**cfg)
    with torch.no_grad():
        for _ in range(2):
            trunk(torch.randn(2, 3, 64, 64))
    options = {} if kind == 'ResNetV1d' else dict(avg_down=False)
    model = timm.create_model('resnet18d', **options)
    trunk.eval()
    load(model, exported(trunk, 'timm', tmp_path), ('fc.',))
    with torch.no_grad():
        close(model.forward_features(IMAGES), trunk(IMAGES)[-1])


@pytest.mark.parametrize('target', ['timm', 'torchvision'])
def test_a_vision_transformer_of_mmpretrain_leaves_it(target, tmp_path):
    timm = pytest.importorskip('timm')
    pytest.importorskip('mmpretrain.models')
    from mmpretrain.models import VisionTransformer

    arch = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=96)
    torch.manual_seed(0)
    trunk = VisionTransformer(arch=arch, img_size=64, patch_size=16, out_type='featmap')
    trunk.eval()
    state = exported(trunk, target, tmp_path)
    with torch.no_grad():
        if target == 'timm':
            given = {k: v for k, v in VIT.items() if k not in ('type', 'dynamic_img_size')}
            model = timm.create_model(given.pop('name'), **given)
            load(model, state, ('head.',))
            tokens = model.forward_features(IMAGES)[:, 1:]
        else:
            model = torchvision.models.VisionTransformer(64, 16, 2, 3, 24, 96)
            load(model, state, ('heads.',))
            tokens = model._process_input(IMAGES)
            tokens = model.encoder(torch.cat([model.class_token.expand(2, -1, -1), tokens], 1))
            tokens = tokens[:, 1:]
        close(tokens.transpose(1, 2).unflatten(2, (4, 4)), trunk(IMAGES)[-1])


def test_names_that_timm_does_not_know_are_no_export_for_it(tmp_path):
    swin = {'stages.0.blocks.0.attn.w_msa.qkv.weight': torch.ones(3, 3)}
    with pytest.raises(SettingsError, match='of OpenMMLab, whose names timm does not know'):
        export_trunk(swin, tmp_path / 'out.pth', 'timm')
    assert not (tmp_path / 'out.pth').exists()


STYLE = InputStyle((103.5, 116.0, 123.5), (1.0, 1.0, 1.0), 'BGR', '1x1')


@pytest.mark.parametrize('target', ['mmdet', 'mmseg', 'mmpretrain', 'plrc', 'safetensors', 'timm'])
def test_the_export_keeps_what_the_trunk_expects_of_images(target, tmp_path, monkeypatch, capsys):
    state = {f'backbone.{k}': v for k, v in torchvision.models.resnet18().state_dict().items()}
    state = {key: value for key, value in state.items() if '.fc.' not in key}
    meta = dict(input_style=STYLE._asdict())
    torch.save(dict(meta=meta, state_dict=state), tmp_path / 'plrc.pth')
    tool(monkeypatch, tmp_path / 'plrc.pth', tmp_path / 'out', '--to', target)
    said = capsys.readouterr().out
    assert f'input of the weights: {STYLE}' in said
    found = find_trunk(read_file(str(tmp_path / 'out'))).style
    assert found == (None if target == 'timm' else STYLE)
    assert ('has no place for it' in said) == (target == 'timm')


@pytest.mark.parametrize('target', ['torchvision', 'mmpretrain', 'mmseg'])
def test_a_transformer_with_further_parts_is_listed(target, tmp_path):
    pytest.importorskip('timm')
    trunk = MODELS.build(
        dict(type='plrc_plugin.TimmTrunk', name='vit_small_patch14_reg4_dinov2', img_size=56)
    )
    with pytest.raises(SettingsError, match='further parts.*(ls1|reg_token)'):
        exported(trunk, target, tmp_path)


def plrc():
    return PLRC(
        dict(type='plrc_plugin.ResNet', depth=18, base_channels=4), embedding_dim=8, queue_size=16
    )


def test_parts_for_those_who_continue(tmp_path):
    torch.manual_seed(1)
    net, other = plrc(), plrc()
    torch.save(dict(meta=dict(epoch=3), state_dict=net.state_dict()), tmp_path / 'plrc.pth')
    parts = ['projector', 'momentum_backbone', 'momentum_projector', 'queue']
    export_parts(tmp_path / 'out.pth', str(tmp_path / 'plrc.pth'), parts)
    before = copy.deepcopy(other.state_dict())
    fill_model(other, str(tmp_path / 'out.pth'), ['backbone', *parts])
    state = other.state_dict()
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    assert not torch.equal(before['queue.bank'], state['queue.bank'])
    export_parts(tmp_path / 'out.pth', str(tmp_path / 'plrc.pth'), ['queue'])
    kept = torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict']
    assert {name.partition('.')[0] for name in kept} == {'backbone', 'queue'}
    with pytest.raises(SettingsError, match="no part 'predictor'; it has backbone, projector"):
        export_parts(tmp_path / 'no.pth', str(tmp_path / 'plrc.pth'), ['predictor'])


def tool(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
    runpy.run_path(str(TOOL), run_name='__main__')


def test_the_command_keeps_parts_and_takes_half_precision(tmp_path, monkeypatch, capsys):
    net = plrc()
    torch.save(dict(state_dict=net.state_dict()), tmp_path / 'plrc.pth')
    arguments = [tmp_path / 'plrc.pth', tmp_path / 'out.pth', '--to', 'plrc', '--parts', 'all']
    tool(monkeypatch, *arguments)
    kept = torch.load(tmp_path / 'out.pth', weights_only=True)['state_dict']
    assert kept.keys() == net.state_dict().keys()
    torch.save({k: v.half() for k, v in net.backbone.state_dict().items()}, tmp_path / 'half.pth')
    arguments = [tmp_path / 'half.pth', tmp_path / 'full.pth', '--to', 'plrc', '--float32']
    tool(monkeypatch, *arguments)
    full = torch.load(tmp_path / 'full.pth', weights_only=True)['state_dict']
    assert full['backbone.conv1.weight'].dtype == torch.float32


CONFIG = """
default_scope = 'plrc_plugin'
custom_imports = dict(imports=['plrc_plugin'])
model = dict(type='plrc_plugin.MomentumContrast', embedding_dim=8, queue_size=8, backbone={})
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    'cfg', [dict(type='plrc_plugin.ResNet', depth=18, base_channels=4, in_channels=2), VIT]
)
def test_onnx(cfg, tmp_path, monkeypatch, capsys):
    pytest.importorskip('onnxscript')
    runtime = pytest.importorskip('onnxruntime')
    if 'Timm' in cfg['type']:
        pytest.importorskip('timm')
    channels = cfg.get('in_channels', 3)
    trunk = MODELS.build(cfg).eval()
    torch.save(trunk.state_dict(), tmp_path / 'trunk.pth')
    (tmp_path / 'config.py').write_text(CONFIG.format(cfg))
    arguments = [tmp_path / 'trunk.pth', tmp_path / 'trunk.onnx', '--to', 'onnx']
    tool(monkeypatch, *arguments, '--config', tmp_path / 'config.py', '--size', 64)
    session = runtime.InferenceSession(tmp_path / 'trunk.onnx')
    for count in (1, 3):
        images = torch.randn(count, channels, 64, 64)
        (found,) = session.run(['map'], dict(images=images.numpy()))
        with torch.no_grad():
            close(torch.from_numpy(found), trunk(images)[0])


def test_onnx_without_its_libraries_names_them(tmp_path, monkeypatch, capsys):
    from plrc_plugin.checkpoints.onnx_export import export_onnx

    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    with pytest.raises(SettingsError, match=r"pip install 'plrc_plugin\[onnx\]'"):
        export_onnx(nn.Conv2d(3, 3, 1), str(tmp_path / 'x.onnx'), 32)
    torch.save(plrc().state_dict(), tmp_path / 'plrc.pth')
    with pytest.raises(SystemExit):
        tool(monkeypatch, tmp_path / 'plrc.pth', tmp_path / 'x.onnx', '--to', 'onnx')
    assert 'give the work dir of a run, or a config file' in capsys.readouterr().err
