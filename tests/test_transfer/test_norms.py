"""SyncBN's fall-back and precise BN."""

from unittest.mock import patch

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from plrc_plugin.registry import DATASETS, MODELS
from plrc_plugin.transfer import sync_bn


@pytest.mark.parametrize(
    'device, processes, expected, reason',
    [
        ('cpu', 4, nn.BatchNorm2d, 'no GPU'),
        ('cuda', 1, nn.BatchNorm2d, 'one process'),
        ('cuda', 2, nn.SyncBatchNorm, None),
    ],
)
def test_sync_bn_falls_back_and_says_so(device, processes, expected, reason, capsys):
    sync_bn._say_once.cache_clear()
    with (
        patch.object(sync_bn, 'get_device', lambda: device),
        patch.object(sync_bn, 'get_world_size', lambda: processes),
        patch.object(sync_bn, 'print_log') as said,
    ):
        layers = [
            MODELS.build(dict(type='plrc_plugin.SyncBN', num_features=3, eps=1e-3))
            for _ in range(3)
        ]
    assert all(type(layer) is expected and layer.eps == 1e-3 for layer in layers)
    assert said.call_count == (reason is not None)
    assert reason is None or reason in said.call_args[0][0]


def test_sync_bn_serves_mmcv_under_the_trunks_names():
    cnn = pytest.importorskip('mmcv.cnn')
    name, layer = cnn.build_norm_layer(dict(type='plrc_plugin.SyncBN', requires_grad=True), 4, 1)
    assert name == 'bn1' and type(layer) is nn.BatchNorm2d


@DATASETS.register_module()
class _RandomImages(torch.utils.data.Dataset):
    images = torch.rand(8, 1, 2, 2, generator=torch.Generator().manual_seed(0)) * 5

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return dict(x=self.images[index])


class Normed(BaseModel):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.frozen = nn.BatchNorm2d(1)

    def train(self, mode=True):
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, x, mode):
        if mode == 'predict':
            return []
        return dict(loss=(self.frozen(self.norm(torch.stack(x)))).square().mean())


def test_precise_bn_is_the_mean_over_batches(tmp_path):
    data = dict(
        dataset=dict(type='plrc_plugin._RandomImages'),
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    config = dict(
        work_dir=str(tmp_path),
        train_dataloader=data,
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=6, val_interval=4),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1)),
        custom_hooks=[dict(type='plrc_plugin.PreciseBN', num_iters=4)],
    )
    runner = Runner(model=Normed(), **config, cfg=config, experiment_name='precise')
    runner.train()

    batches = _RandomImages.images.view(4, 2, 1, 2, 2)
    mean = batches.mean((1, 2, 3, 4)).mean()
    var = torch.stack([batch.var() for batch in batches]).mean()
    norm = runner.model.norm
    torch.testing.assert_close(norm.running_mean, mean[None])
    torch.testing.assert_close(norm.running_var, var[None])
    assert norm.momentum == 0.1 and norm.num_batches_tracked == 6
    assert runner.model.frozen.running_mean == 0

    def saved(step):
        state = torch.load(tmp_path / f'iter_{step}.pth', weights_only=False)['state_dict']
        return state['norm.running_mean']

    torch.testing.assert_close(saved(4), mean[None])  # before the evaluation, in its checkpoint
    assert (saved(3) - mean).abs() > 0.1
    torch.testing.assert_close(saved(6), mean[None])
