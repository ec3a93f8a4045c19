"""Files that the libraries' own models give; a library that is not installed is skipped by name."""

import copy

import pytest
import torch
import torchvision
from torch import nn

from plrc_plugin.checkpoints.trunk import fill_model
from plrc_plugin.registry import MODELS

RESNET = dict(type='plrc_plugin.ResNet', depth=18)
VIT = dict(
    type='plrc_plugin.TimmTrunk',
    name='vit_tiny_patch16_224',
    img_size=64,
    embed_dim=24,
    depth=2,
    num_heads=3,
)
DINOV2 = dict(VIT, name='vit_small_patch14_dinov2', img_size=56)
IMAGES = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def trained(model):
    """No tensor is as it was, and no map explodes."""
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.copy_(0.05 * torch.randn_like(value).abs() + (value.dim() == 1))
    return model.eval() or model  # a model of mmpretrain returns nothing


def filled(cfg, state, tmp_path, name='weights.pth'):
    if state is not None:
        torch.save(state, tmp_path / name)
    model = nn.Module()
    model.backbone = MODELS.build(cfg).eval()
    fill_model(model, str(tmp_path / name))
    return model.backbone


def close(features, expected):
    assert features.shape == expected.shape
    assert (features - expected).abs().max() <= 1e-5 * expected.abs().max()


def equal(trunk, state):
    return all(
        torch.equal(value, state[key])
        for key, value in trunk.state_dict().items()
        if 'num_batches' not in key
    )


def test_lightly(tmp_path):
    """The examples of lightly: a trunk without its last child, its twin, its heads."""
    pytest.importorskip('lightly')
    from lightly.models.modules import DINOProjectionHead, MoCoProjectionHead

    resnet = trained(torchvision.models.resnet18())
    moco = nn.Module()
    moco.backbone_momentum = trained(nn.Sequential(*list(copy.deepcopy(resnet).children())[:-1]))
    moco.backbone = nn.Sequential(*list(resnet.children())[:-1])
    moco.projection_head = MoCoProjectionHead(512, 16, 8)
    dino = nn.Module()
    dino.student_backbone = moco.backbone_momentum
    dino.student_head = DINOProjectionHead(512, 16, 8, 8)
    dino.teacher_backbone = moco.backbone
    dino.teacher_head = DINOProjectionHead(512, 16, 8, 8)
    for model in (moco, dino):
        state = {'epoch': 1, 'pytorch-lightning_version': '2', 'state_dict': model.state_dict()}
        assert equal(filled(RESNET, state, tmp_path), resnet.state_dict())


def test_lightly_train(tmp_path):
    pytest.importorskip('lightly_train')
    from lightly_train._models.embedding_model import EmbeddingModel
    from lightly_train._models.torchvision.torchvision_package import TorchvisionPackage

    resnet = trained(torchvision.models.resnet18())
    wrapper = TorchvisionPackage.get_model_wrapper(resnet)
    model = nn.Module()
    model.teacher_embedding_model = EmbeddingModel(wrapper)
    model.student_embedding_model = trained(copy.deepcopy(model.teacher_embedding_model))
    model.teacher_projection_head = nn.Linear(2, 2)
    assert equal(filled(RESNET, dict(state_dict=model.state_dict()), tmp_path), resnet.state_dict())
    TorchvisionPackage.export_model(wrapper, tmp_path / 'exported_last.pt', log_example=False)
    assert equal(filled(RESNET, None, tmp_path, 'exported_last.pt'), resnet.state_dict())


@pytest.mark.parametrize('kind', ['bin', 'safetensors'])
@pytest.mark.parametrize('name', ['ResNet', 'ViT', 'Dinov2', 'Dinov2WithRegisters', 'ConvNext'])
def test_hugging_face(name, kind, tmp_path):
    transformers = pytest.importorskip('transformers')
    pytest.importorskip('timm')
    plain = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3)
    options, cfg = {
        'ResNet': (
            dict(depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], layer_type='basic'),
            RESNET,
        ),
        'ViT': (dict(plain, image_size=64, intermediate_size=96, layer_norm_eps=1e-6), VIT),
        'Dinov2': (dict(plain, image_size=56, patch_size=14), DINOV2),
        'Dinov2WithRegisters': (
            dict(plain, image_size=56, patch_size=14),
            dict(DINOV2, name='vit_small_patch14_reg4_dinov2'),
        ),
        'ConvNext': (
            dict(hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 2, 1]),
            dict(
                type='plrc_plugin.TimmTrunk',
                name='convnext_tiny',
                dims=(8, 16, 16, 32),
                depths=(1, 1, 2, 1),
            ),
        ),
    }[name]
    config = getattr(transformers, f'{name}Config')(**options)
    model = trained(getattr(transformers, f'{name}Model')(config))
    if kind == 'bin':
        trunk = filled(cfg, model.state_dict(), tmp_path)
    else:
        model.save_pretrained(tmp_path)
        trunk = filled(cfg, None, tmp_path, 'model.safetensors')
    images = IMAGES[..., : cfg.get('img_size', 64), : cfg.get('img_size', 64)]
    with torch.no_grad():
        expected, features = model(images).last_hidden_state, trunk(images)[0]
    if expected.dim() == 3:
        side = features.shape[-1]
        expected = expected[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))
    close(features, expected)


@pytest.mark.parametrize('scale', [0.0, 1e-5])
def test_vision_transformers_of_mmpretrain(scale, tmp_path):
    pytest.importorskip('mmpretrain.models')
    pytest.importorskip('timm')
    from mmpretrain.models import VisionTransformer

    cfg, side, patch = (DINOV2, 56, 14) if scale else (VIT, 64, 16)
    arch = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=96)
    model = trained(
        VisionTransformer(arch, side, patch, out_type='featmap', layer_scale_init_value=scale)
    )
    state = {f'backbone.{key}': value for key, value in model.state_dict().items()}
    images = IMAGES[..., :side, :side]
    with torch.no_grad():
        close(filled(cfg, dict(state_dict=state), tmp_path)(images)[0], model(images)[-1])


@pytest.mark.parametrize('name', ['MoCo', 'DenseCL', 'BYOL'])
def test_self_supervised_models_of_mmpretrain(name, tmp_path):
    """Since version 1, MMSelfSup's are there too."""
    pytest.importorskip('mmpretrain.models')
    from mmengine.registry import DefaultScope
    from mmpretrain.registry import MODELS as MODELS_OF_MMPRETRAIN

    neck = dict(type='MoCoV2Neck', in_channels=512, hid_channels=16, out_channels=8)
    head = dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'))
    two = dict(type='NonLinearNeck', in_channels=512, hid_channels=16, out_channels=8)
    loss = dict(type='CosineSimilarityLoss')
    rest = {
        'MoCo': dict(neck=neck, head=head, queue_len=64, feat_dim=8),
        'DenseCL': dict(neck=dict(neck, type='DenseCLNeck'), head=head, queue_len=64, feat_dim=8),
        'BYOL': dict(
            neck=two,
            head=dict(type='LatentPredictHead', loss=loss, predictor=dict(two, in_channels=8)),
        ),
    }[name]
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS_OF_MMPRETRAIN.build(
            dict(type=name, backbone=dict(type='ResNet', depth=18), **rest)
        )
    trained(model)
    state = dict(meta=dict(epoch=1), state_dict=model.state_dict())
    assert equal(filled(RESNET, state, tmp_path), model.backbone.state_dict())
