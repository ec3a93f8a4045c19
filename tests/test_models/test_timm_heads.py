"""Trunks of timm end with their last stage: no convolution that is there for the classifier."""

import pytest
import torch

from plrc_plugin.checkpoints.trunk import fill_model
from plrc_plugin.models import TimmTrunk

timm = pytest.importorskip('timm')


class Pair(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.backbone, self.momentum_backbone = TimmTrunk(name), TimmTrunk(name)


@pytest.mark.parametrize(
    'name, left_out',
    [
        ('tf_efficientnet_lite0', ['classifier', 'conv_head', 'bn2']),
        ('mobilenetv2_050', ['classifier', 'conv_head', 'bn2']),
        ('ghostnet_050', ['conv_head', 'classifier', 'blocks.9']),
        ('rexnet_100', ['head', 'features.16']),
        ('regnetz_005', ['head', 'final_conv']),
        ('fastvit_t8', ['head', 'final_conv']),
        ('gernet_s', ['head', 'final_conv']),
        ('resnet10t', ['fc']),
        ('convnext_atto', ['head']),
    ],
)
def test_the_last_map_is_that_of_the_last_stage(name, left_out, tmp_path):
    torch.manual_seed(0)
    whole = timm.create_model(name, num_classes=7).eval()
    torch.save(whole.state_dict(), tmp_path / 'weights.pth')
    pair = Pair(name).eval()
    assert sorted(pair.backbone.left_out) == sorted(left_out)
    fill_model(pair, str(tmp_path / 'weights.pth'))
    images = torch.randn(1, 3, 64, 64)
    stages = []
    behind = [part for part in left_out if part not in ('classifier', 'head', 'fc')]
    if behind and name != 'ghostnet_050':
        whole.get_submodule(behind[0]).register_forward_pre_hook(lambda _, x: stages.append(x[0]))
    elif behind:
        whole.blocks[9].register_forward_pre_hook(lambda _, x: stages.append(x[0]))
    with torch.no_grad():
        last = whole.forward_features(images)
        expected = stages[0] if behind else last
        for encoder in (pair.backbone, pair.momentum_backbone):
            torch.testing.assert_close(encoder(images)[0], expected, rtol=1e-5, atol=1e-5)
