"""Vision transformers of other libraries fill timm's, and timm's theirs: equal features."""

import pytest
import torch
import torchvision

from plrc_plugin.checkpoints.trunk import fill_model
from plrc_plugin.checkpoints.vit import vit_for
from plrc_plugin.errors import SettingsError
from plrc_plugin.registry import MODELS

timm = pytest.importorskip('timm')
SMALL = dict(type='plrc_plugin.TimmTrunk', img_size=64, embed_dim=24, depth=2, num_heads=3)
VIT = dict(SMALL, name='vit_tiny_patch16_224')
DINOV2 = dict(SMALL, name='vit_small_patch14_dinov2', img_size=56)
REGISTERS = dict(DINOV2, name='vit_small_patch14_reg4_dinov2')
IMAGES = {size: torch.randn(1, 3, size, size) for size in (56, 64)}


def trained(cfg):
    torch.manual_seed(3)
    trunk = MODELS.build(cfg).eval()
    with torch.no_grad():
        for value in trunk.parameters():
            value.copy_(0.1 * torch.randn_like(value) + (value.dim() == 1))
    return trunk


def filled(cfg, state, tmp_path):
    """A new trunk, and the lines, after it was filled from a file of ``state``."""
    torch.save(state, tmp_path / 'weights.pth')
    model = torch.nn.Module()
    model.backbone = MODELS.build(cfg).eval()
    return model.backbone, fill_model(model, str(tmp_path / 'weights.pth'))


def equal(trunk, other):
    state = other.state_dict()
    return all(torch.equal(value, state[key]) for key, value in trunk.state_dict().items())


def close(features, expected):
    assert features.shape == expected.shape
    assert (features - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize('library', ['torchvision', 'mmpretrain', 'mmseg'])
def test_names_of_other_libraries(library, tmp_path):
    trunk = trained(VIT)
    state = {f'backbone.{k}': v for k, v in vit_for(trunk.state_dict(), library).items()}
    found, lines = filled(VIT, dict(state_dict=state), tmp_path)
    assert equal(found, trunk) and f'names of {library}' in lines[0]


def test_torchvision_gives_the_same_features(tmp_path):
    torch.manual_seed(0)
    model = torchvision.models.VisionTransformer(64, 16, 2, 3, 24, 96).eval()
    trunk, _ = filled(VIT, model.state_dict(), tmp_path)
    with torch.no_grad():
        tokens = model._process_input(IMAGES[64])
        tokens = model.encoder(torch.cat([model.class_token, tokens], 1))[:, 1:]
        close(trunk(IMAGES[64])[0], tokens.transpose(1, 2).unflatten(2, (4, 4)))


@pytest.mark.parametrize('library', ['mmpretrain', 'mmseg'])
def test_the_other_way_round(library, tmp_path):
    """A transformer of OpenMMLab, of which the names alone count here, takes timm's file."""
    trunk = trained(DINOV2 if library == 'mmpretrain' else VIT)
    names = vit_for(trunk.state_dict(), library)
    module = torch.nn.Module()
    for name, value in names.items():
        *path, last = name.split('.')
        place = module
        for part in path:
            if part not in dict(place.named_children()):
                place.add_module(part, torch.nn.Module())
            place = place.get_submodule(part)
        place.register_parameter(last, torch.nn.Parameter(torch.zeros_like(value)))
    model = torch.nn.Module()
    model.backbone = module
    torch.save(trunk.state_dict(), tmp_path / 'timm.pth')
    assert f'names for {library}' in fill_model(model, str(tmp_path / 'timm.pth'))[0]
    assert all(torch.equal(module.state_dict()[name], value) for name, value in names.items())


def dinov2(trunk, chunks):
    """DINOv2's own file of a trunk: registers apart from positions, blocks in chunks."""
    state = dict(trunk.state_dict())
    if 'reg_token' in state:
        first = torch.full((1, 1, 24), 0.25)
        state['register_tokens'] = state.pop('reg_token')
        state['pos_embed'] = torch.cat([first, state['pos_embed']], 1)
        state['cls_token'] = state['cls_token'] - first
    if chunks:
        state = {k.replace('blocks.', 'blocks.0.'): v for k, v in state.items()}
    return {**state, 'mask_token': torch.zeros(1, 24)}


@pytest.mark.parametrize('chunks', [False, True])
@pytest.mark.parametrize('cfg', [DINOV2, REGISTERS], ids=['plain', 'registers'])
@pytest.mark.parametrize('place', ['', 'teacher.backbone.'])
def test_dinov2(place, cfg, chunks, tmp_path):
    trunk = trained(cfg)
    state = {place + key: value for key, value in dinov2(trunk, chunks).items()}
    if place:
        student = {k.replace('teacher', 'student'): v + 1 for k, v in state.items()}
        state = {**student, **state, 'teacher.dino_head.mlp.0.weight': torch.ones(3, 3)}
    found, _ = filled(cfg, state, tmp_path)
    with torch.no_grad():
        close(found(IMAGES[56])[0], trunk(IMAGES[56])[0])


def hugging_face(trunk, names):
    """Names of transformers' models: query, key and value apart."""
    state = {}
    for key, value in trunk.state_dict().items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        if 'qkv' not in key:
            state[key] = value
            continue
        for name, part in zip(('query', 'key', 'value'), value.chunk(3)):
            state[key.replace('attn.qkv', f'attention.attention.{name}')] = part
    return state


OF_BOTH = {
    'cls_token': 'embeddings.cls_token',
    'pos_embed': 'embeddings.position_embeddings',
    'patch_embed.proj': 'embeddings.patch_embeddings.projection',
    'blocks.': 'encoder.layer.',
    'attn.proj': 'attention.output.dense',
}
OF_VIT = {
    'mlp.fc1': 'intermediate.dense',
    'mlp.fc2': 'output.dense',
    'norm1': 'layernorm_before',
    'norm2': 'layernorm_after',
}
OF_DINOV2 = {'ls1.gamma': 'layer_scale1.lambda1', 'ls2.gamma': 'layer_scale2.lambda1'}


@pytest.mark.parametrize('place', ['', 'vit.', 'dinov2.'])
@pytest.mark.parametrize('cfg, names', [(VIT, OF_VIT), (DINOV2, OF_DINOV2)], ids=['vit', 'dinov2'])
def test_hugging_face(cfg, names, place, tmp_path):
    trunk = trained(cfg)
    state = hugging_face(trunk, {**OF_BOTH, **names})
    state = {
        k.replace('norm.', 'layernorm.') if k[:5] == 'norm.' else k: v for k, v in state.items()
    }
    state['embeddings.mask_token'] = torch.zeros(1, 24)
    state = {place + key: value for key, value in state.items()}
    found, _ = filled(cfg, {**state, 'classifier.weight': torch.ones(3, 24)}, tmp_path)
    assert equal(found, trunk)


@pytest.mark.parametrize('kind', ['hf', 'authors'])
def test_dinov3(kind, tmp_path):
    cfg = dict(SMALL, name='vit_small_patch16_dinov3_qkvb')
    trunk = trained({k: v for k, v in cfg.items() if k != 'img_size'})
    state = {}
    for key, value in trunk.state_dict().items():
        if kind == 'authors':
            key = key.replace('reg_token', 'storage_tokens')
            key = key.replace('gamma_1', 'ls1.gamma').replace('gamma_2', 'ls2.gamma')
            if key.endswith('q_bias'):
                v_bias = trunk.state_dict()[key.replace('q_bias', 'v_bias')]
                value = torch.cat([value, torch.zeros(24), v_bias])
                key = key.replace('q_bias', 'qkv.bias')
            elif key.endswith('v_bias'):
                continue
            state[key] = value
            continue
        for ours, theirs in {
            'cls_token': 'embeddings.cls_token',
            'reg_token': 'embeddings.register_tokens',
            'patch_embed.proj': 'embeddings.patch_embeddings',
            'blocks.': 'layer.',
            'gamma_1': 'layer_scale1.lambda1',
            'gamma_2': 'layer_scale2.lambda1',
            'mlp.fc1': 'mlp.up_proj',
            'mlp.fc2': 'mlp.down_proj',
            'attn.proj': 'attention.o_proj',
            'attn.q_bias': 'attention.q_proj.bias',
            'attn.v_bias': 'attention.v_proj.bias',
        }.items():
            key = key.replace(ours, theirs)
        if 'qkv' in key:
            for name, part in zip('qkv', value.chunk(3)):
                state[key.replace('attn.qkv', f'attention.{name}_proj')] = part
        else:
            state[key] = value
    found, _ = filled({k: v for k, v in cfg.items() if k != 'img_size'}, state, tmp_path)
    assert equal(found, trunk)


@pytest.mark.parametrize('cfg', [VIT, REGISTERS], ids=['class token', 'registers'])
def test_positions_of_another_size_are_resampled_and_said(cfg, tmp_path):
    large = dict(cfg, img_size=2 * cfg['img_size'])
    trunk = trained(large)
    found, lines = filled(cfg, trunk.state_dict(), tmp_path)
    assert any('pos_embed: resampled from 8 x 8 patches to 4 x 4' in line for line in lines), lines
    # timm resamples the same way where it loads the file itself
    options = {k: v for k, v in cfg.items() if k not in ('type', 'name')}
    (tmp_path / 'timm.pth').unlink(missing_ok=True)
    expected = timm.create_model(cfg['name'], num_classes=0, **options)
    convert = timm.models.vision_transformer.checkpoint_filter_fn
    expected.load_state_dict(convert(trunk.state_dict(), expected))
    torch.testing.assert_close(found.pos_embed, expected.pos_embed, rtol=0, atol=1e-6)


def test_the_authors_names_by_way_of_timm(tmp_path):
    """ConvNeXt's own files: timm knows how to convert them."""
    cfg = dict(
        type='plrc_plugin.TimmTrunk', name='convnext_tiny', dims=(8, 8, 16, 16), depths=(1, 1, 2, 1)
    )
    trunk = trained(cfg)
    state = {}
    for key, value in trunk.state_dict().items():
        root, number, *rest = key.split('.')
        rest = '.'.join(rest)
        if root == 'stem':
            key = f'downsample_layers.0.{number}.{rest}'
        elif rest.startswith('downsample'):
            key = rest.replace('downsample', f'downsample_layers.{number}')
        else:
            names = {'blocks.': '', 'conv_dw': 'dwconv', 'mlp.fc': 'pwconv'}
            for ours, theirs in names.items():
                rest = rest.replace(ours, theirs)
            key = f'stages.{number}.{rest}'
        state[key] = value
    state.update({'norm.weight': torch.ones(16), 'norm.bias': torch.ones(16)})
    found, lines = filled(cfg, dict(model=state), tmp_path)
    assert equal(found, trunk) and 'converted by timm' in lines[0]


@pytest.mark.parametrize(
    'name, expected',
    [
        ('vit_b_32', "name='vit_base_patch32_224'"),
        ('vit_small_patch14_reg4_dinov2', "name='vit_small_patch14_reg4_dinov2'"),
    ],
)
def test_the_nearest_transformer_is_named(name, expected, tmp_path):
    with torch.device('meta'):
        model = (
            torchvision.models.get_model(name) if name == 'vit_b_32' else timm.create_model(name)
        )
    state = {key: torch.zeros(1).expand(value.shape) for key, value in model.state_dict().items()}
    torch.save(state, tmp_path / 'weights.pth')
    resnet = torch.nn.Module()
    resnet.backbone = MODELS.build(dict(type='plrc_plugin.ResNet', depth=18, base_channels=4))
    with pytest.raises(SettingsError, match=expected) as error:
        fill_model(resnet, str(tmp_path / 'weights.pth'))
    assert len(str(error.value).splitlines()) <= 8
