"""Recomputed activations are not kept; modules that the model lacks are named."""

import pytest
import torch
from runs import make_images, tiny_config, train

from plrc_plugin.engine.hooks.trunk_options import TrunkOptionsHook, recompute_activations
from plrc_plugin.errors import SettingsError


def test_recomputed_activations_are_forgotten():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
    images = torch.randn(2, 3, 16, 16)
    kept = []
    recompute_activations(net)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.append(x.numel()) or x, lambda x: x
    ):
        out = net(images)
    assert sum(kept) <= images.numel()
    out.sum().backward()
    assert net[0].weight.grad is not None and net[1].num_batches_tracked == 1


def test_a_module_that_the_model_lacks_is_named_before_the_run(tmp_path):
    cfg = tiny_config(make_images(tmp_path / 'images', count=4), tmp_path / 'run')
    cfg.custom_hooks.append(
        dict(type='plrc_plugin.TrunkOptionsHook', recompute=['backbone.layer9'])
    )
    with pytest.raises(SettingsError, match="recompute names 'backbone.layer9'"):
        train(cfg)


@pytest.mark.parametrize(
    'setting', [dict(recompute='backbone'), dict(recompute=[1]), dict(compile='yes')]
)
def test_settings_that_cannot_work(setting):
    with pytest.raises(SettingsError, match=f'TrunkOptionsHook: {next(iter(setting))} must be'):
        TrunkOptionsHook(**setting)
