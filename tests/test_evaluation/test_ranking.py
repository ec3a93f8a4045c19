"""The probes tell a trained network from an untrained one."""

import pytest
from conftest import ROOT
from mmengine.config import Config
from runs import train

from plrc_plugin.checkpoints.encoder import load_encoder
from plrc_plugin.datasets.masked_images import masked_images
from plrc_plugin.datasets.scenes.writing import make_scenes
from plrc_plugin.evaluation.cells import ProbeCells
from plrc_plugin.evaluation.probes import evaluate_encoder


@pytest.mark.long
def test_a_short_run_of_the_demo_ranks_above_its_start(tmp_path, monkeypatch):
    # The demo's network and optimiser, 60 iterations at 64 pixels instead of 372 at 96: too few for
    # the linear probe; docs/seeing.md has all numbers of the whole demo.
    scenes = make_scenes(tmp_path / 'scenes', 192, 48, size=(160, 120), progress=False)
    cfg = Config.fromfile(ROOT / 'configs' / 'plrc_demo.py')
    probes = cfg.val_evaluator
    for name in ('val_cfg', 'val_dataloader', 'val_evaluator'):
        cfg.pop(name)
    cfg.custom_hooks.pop()
    cfg.merge_from_dict(
        {
            'train_cfg.max_epochs': 10,
            'model.queue_size': 256,
            'model.momentum': 0.95,
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
        }
    )
    cfg.train_dataloader.dataset = dict(
        type='plrc_plugin.ImageFolder',
        data_root=str(scenes / 'train'),
        pipeline=[
            {**cfg.train_dataloader.dataset.pipeline[0], 'size': 64},
            cfg.train_dataloader.dataset.pipeline[1],
        ],
    )
    cfg.work_dir = cfg.experiment_name = str(tmp_path / 'run')
    train(cfg)
    data = ProbeCells(
        *(masked_images('scenes', scenes, s) for s in ('train', 'val')), size=160, cells=10
    )
    start, trained = (
        evaluate_encoder(load_encoder(cfg, c), data, probes)
        for c in ('random', str(tmp_path / 'run' / 'epoch_10.pth'))
    )
    assert trained['affinity/auc_same_offset'] > start['affinity/auc_same_offset'] + 0.02
    assert trained['knn_seg/mIoU'] > start['knn_seg/mIoU'] + 0.5
