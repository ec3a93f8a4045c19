"""Fine-tuning with the batch-norm statistics of the start."""

from types import SimpleNamespace

import torch
from torch import nn

from plrc_plugin.registry import HOOKS


def test_the_backbones_statistics_stay_and_its_scales_learn():
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model.head = nn.BatchNorm2d(4)
    norm = model.backbone[1]
    hook = HOOKS.build(dict(type='plrc_plugin.KeepTrunkStatistics'))
    before = norm.weight.clone()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(2):
        model.train()  # as loops do after an evaluation
        hook.before_train_iter(SimpleNamespace(model=model), 0)
        optimizer.zero_grad()
        model.head(model.backbone(5 + torch.randn(2, 3, 4, 4))).square().sum().backward()
        norm.weight.grad = torch.ones(4)
        optimizer.step()
    assert not norm.training and model.head.training
    assert torch.equal(norm.running_mean, torch.zeros(4)) and norm.num_batches_tracked == 0
    assert model.head.num_batches_tracked == 2
    assert torch.allclose(norm.weight, before - 0.2)
