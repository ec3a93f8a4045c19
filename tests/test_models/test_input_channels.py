"""Trunks of 1 to 16 channels, and how RGB weights become theirs."""

import pytest
import torch

from plrc_plugin.checkpoints.start import start_encoders
from plrc_plugin.errors import SettingsError
from plrc_plugin.models import MomentumContrast
from plrc_plugin.registry import MODELS

TRUNKS = {
    'ours': dict(type='plrc_plugin.ResNet', depth=18, base_channels=4),
    'torchvision': dict(type='plrc_plugin.TorchvisionTrunk', name='regnet_y_400mf'),
    'timm': dict(type='plrc_plugin.TimmTrunk', name='tf_efficientnet_lite0'),
    'timm, vit': dict(type='plrc_plugin.TimmTrunk', name='vit_tiny_patch16_224'),
}


@pytest.mark.parametrize('name', TRUNKS)
@pytest.mark.parametrize('channels', [1, 5])
@pytest.mark.parametrize('way', ['mean', 'repeat'])
def test_weights_of_rgb_fill_other_channels(name, channels, way, tmp_path):
    if 'timm' in name:
        pytest.importorskip('timm')
    rgb = MODELS.build(TRUNKS[name]).eval()
    torch.save(rgb.state_dict(), tmp_path / 'rgb.pth')
    net = MomentumContrast(dict(TRUNKS[name], in_channels=channels), embedding_dim=8, queue_size=8)
    start_encoders(net, str(tmp_path / 'rgb.pth'), None, None, way)
    grey = torch.randn(1, 1, 64, 64)
    expected = rgb(grey.expand(1, 3, 64, 64))[0]
    for encoder in (net.backbone, net.momentum_backbone):
        features = encoder.eval()(grey.expand(1, channels, 64, 64))[0]
        if way == 'mean':  # exactly what the colours gave
            torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
        assert features.shape == expected.shape
    first = next(m for m in net.backbone.modules() if isinstance(m, torch.nn.Conv2d)).weight
    colours = next(m for m in rgb.modules() if isinstance(m, torch.nn.Conv2d)).weight
    for c in range(channels):
        source = colours.mean(1) if way == 'mean' else colours[:, c % 3]
        torch.testing.assert_close(first[:, c], source * 3 / channels)


def test_how_is_said_and_printed(tmp_path, caplog):
    rgb = MODELS.build(TRUNKS['ours'])
    torch.save(rgb.state_dict(), tmp_path / 'rgb.pth')
    net = MomentumContrast(dict(TRUNKS['ours'], in_channels=4), embedding_dim=8, queue_size=8)
    with pytest.raises(SettingsError, match="takes 4: set pretrained_channels='mean'"):
        start_encoders(net, str(tmp_path / 'rgb.pth'))
    with pytest.raises(SettingsError, match='must be one of mean, repeat'):
        start_encoders(net, str(tmp_path / 'rgb.pth'), channels='sum')
    from plrc_plugin.checkpoints.trunk import fill_model

    lines = fill_model(net, str(tmp_path / 'rgb.pth'), channels='repeat')
    assert 'conv1.weight: 4 channels from red, green, blue in turn, times 3/4' in lines[1]


def test_weights_of_the_same_channels_are_taken_as_they_are(tmp_path):
    net = MomentumContrast(dict(TRUNKS['ours'], in_channels=4), embedding_dim=8, queue_size=8)
    other = MODELS.build(dict(TRUNKS['ours'], in_channels=4))
    torch.save(other.state_dict(), tmp_path / 'four.pth')
    start_encoders(net, str(tmp_path / 'four.pth'))
    assert torch.equal(net.momentum_backbone.conv1.weight, other.conv1.weight)


@pytest.mark.parametrize('channels', [0, 17, 2.0, '3'])
def test_channels_that_cannot_be(channels):
    with pytest.raises(SettingsError, match='from 1 to 16'):
        MODELS.build(dict(TRUNKS['ours'], in_channels=channels))
