"""The trunk computes what torchvision's does, under the same names."""
import pytest
import torch
from torchvision.models import resnet18, resnet50

from plrc_plugin.errors import SettingsError
from plrc_plugin.models import ResNet


@pytest.mark.parametrize('depth, reference', [(18, resnet18), (50, resnet50)])
def test_equals_torchvision(depth, reference):
    theirs = reference().eval()
    ours = ResNet(depth).eval()
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not missing and unexpected == ['fc.weight', 'fc.bias']
    images = torch.randn(1, 3, 64, 64)
    features, = ours(images)
    torch.testing.assert_close(theirs.fc(features.mean((2, 3))), theirs(images))
    assert ours.out_channels == features.shape[1]


def test_initialised_as_torchvision():
    torch.manual_seed(0)
    ours, theirs = ResNet(18), resnet18()
    for name, parameter in ours.named_parameters():
        other = dict(theirs.named_parameters())[name]
        assert parameter.std().item() == pytest.approx(other.std().item(), rel=0.05, abs=1e-8), name


def test_narrow_with_stride_16():
    features, = ResNet(18, base_channels=8, strides=(1, 2, 2, 1))(torch.randn(2, 3, 64, 64))
    assert features.shape == (2, 64, 4, 4)


@pytest.mark.parametrize('setting', [dict(depth=51), dict(base_channels=0), dict(strides=(1, 2, 2)),
                                     dict(strides=(1, 2, 2, 3))])
def test_settings_that_cannot_work(setting):
    with pytest.raises(SettingsError, match=f'ResNet: {next(iter(setting))}'):
        ResNet(**setting)
