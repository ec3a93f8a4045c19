"""Trunks compute what torchvision's models do, under the same names, and train within PLRC."""

import pytest
import torch
import torchvision
from torchvision.models import resnet18, resnet34, resnet50, resnet101

from plrc_plugin.errors import SettingsError
from plrc_plugin.models.backbones import ResNet, TorchvisionTrunk
from plrc_plugin.models.plrc import PLRC


@pytest.mark.parametrize('depth, reference', [(18, resnet18), (50, resnet50)])
def test_equals_torchvision(depth, reference):
    theirs = reference().eval()
    ours = ResNet(depth).eval()
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not missing and unexpected == ['fc.weight', 'fc.bias']
    images = torch.randn(1, 3, 64, 64)
    (features,) = ours(images)
    torch.testing.assert_close(theirs.fc(features.mean((2, 3))), theirs(images))
    assert ours.out_channels == features.shape[1]


def test_initialised_as_torchvision():
    torch.manual_seed(0)
    ours, theirs = ResNet(18), resnet18()
    for name, parameter in ours.named_parameters():
        other = dict(theirs.named_parameters())[name]
        assert parameter.std().item() == pytest.approx(other.std().item(), rel=0.05, abs=1e-8), name


def test_narrow_with_stride_16():
    (features,) = ResNet(18, base_channels=8, strides=(1, 2, 2, 1))(torch.randn(2, 3, 64, 64))
    assert features.shape == (2, 64, 4, 4)


@pytest.mark.parametrize(
    'setting',
    [dict(depth=51), dict(base_channels=0), dict(strides=(1, 2, 2)), dict(strides=(1, 2, 2, 3))],
)
def test_settings_that_cannot_work(setting):
    with pytest.raises(SettingsError, match=f'ResNet: {next(iter(setting))}'):
        ResNet(**setting)


@pytest.mark.parametrize(
    'depth, reference, channels', [(34, resnet34, 512), (101, resnet101, 2048)]
)
def test_other_depths_have_torchvisions_parameters(depth, reference, channels):
    with torch.device('meta'):
        theirs = reference().state_dict()
        ours = ResNet(depth)
    shapes = {name: value.shape for name, value in theirs.items() if not name.startswith('fc.')}
    assert {name: value.shape for name, value in ours.state_dict().items()} == shapes
    assert ours.out_channels == channels


@pytest.mark.parametrize(
    'name, head',
    [
        ('convnext_tiny', 'classifier'),
        ('swin_t', 'head'),
        ('regnet_y_400mf', 'fc'),
        ('resnet18', 'fc'),
    ],
)
def test_torchvision_trunks_are_the_models_before_their_pooling(name, head):
    theirs = torchvision.models.get_model(name).eval()
    ours = TorchvisionTrunk(name).eval()
    state = theirs.state_dict()
    assert set(ours.state_dict()) == {key for key in state if not key.startswith(f'{head}.')}
    ours.load_state_dict({key: state[key] for key in ours.state_dict()})
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        pooled = ours(images)[-1].mean((2, 3), keepdim=True)
        scores = getattr(theirs, head)(pooled if name == 'convnext_tiny' else pooled.flatten(1))
        torch.testing.assert_close(scores, theirs(images))


def trains_within_plrc(backbone, channels):
    """Every parameter of the encoder gets a gradient; the projector has the trunk's width."""
    net = PLRC(backbone, embedding_dim=8, queue_size=8, alpha=1.0)
    assert net.channels == net.projector[0].in_channels == channels and net.stride == 32
    g = torch.Generator().manual_seed(1)
    query, key = [
        dict(
            image=torch.randn(2, 3, 64, 64, generator=g),
            points=torch.rand(2, 6, 2, generator=g),
            regions=torch.arange(6).expand(2, 6) % 3,
        )
        for _ in range(2)
    ]
    loss = net.train()(query, key, mode='loss')['loss']
    loss.backward()
    assert loss.isfinite()
    for name, parameter in net.named_parameters():
        if name.startswith('momentum_'):
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    'name, channels', [('convnext_tiny', 768), ('swin_t', 768), ('regnet_y_400mf', 440)]
)
def test_torchvision_trunks_train(name, channels):
    trains_within_plrc(dict(type='plrc_plugin.TorchvisionTrunk', name=name), channels)


def test_a_swin_of_mmdet_trains():
    pytest.importorskip('mmdet.models')
    trains_within_plrc(
        dict(
            type='mmdet.SwinTransformer',
            embed_dims=8,
            depths=(1, 1, 1, 1),
            num_heads=(1, 1, 1, 1),
            out_indices=(3,),
        ),
        64,
    )


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(name='resnet19'), "no classification model 'resnet19'"),
        (dict(name='vit_b_16'), 'vit_b_16 has no last map.*hierarchical'),
        (dict(name='resnet18', weights='DEFAULT'), 'leave weights out.*pretrained='),
    ],
)
def test_torchvision_trunks_that_cannot_work(settings, message):
    with pytest.raises(SettingsError, match=f'TorchvisionTrunk: .*{message}'):
        TorchvisionTrunk(**settings)
