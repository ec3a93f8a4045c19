"""`make demo-transfer` at its smallest: two checkpoints, a detector and a segmenter, a table."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from plrc_plugin.datasets.scenes.writing import make_scenes
from plrc_plugin.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.long
def test_the_demos_configs_compare_scratch_and_checkpoint(tmp_path, monkeypatch):
    pytest.importorskip('mmdet.models')
    pytest.importorskip('mmseg.models')
    make_scenes(tmp_path / 'scenes', num_train=6, num_val=3, progress=False)
    demo = Config.fromfile(ROOT / 'configs' / 'plrc_demo.py')
    torch.save(dict(state_dict=MODELS.build(demo.model).state_dict()), tmp_path / 'plrc.pth')
    monkeypatch.setenv('PLRC_SCENES', str(tmp_path / 'scenes'))

    configs = [
        ROOT / 'configs/mmdet/faster-rcnn_r18-c4_demo_scenes.py',
        ROOT / 'configs/mmseg/fcn_r18_demo_scenes.py',
    ]
    done = subprocess.run(
        [
            sys.executable,
            ROOT / 'tools/transfer_table.py',
            '--work-dir',
            tmp_path / 'out',
            '--checkpoints',
            'scratch',
            f'plrc={tmp_path / "plrc.pth"}',
            '--configs',
            *configs,
            '--cfg-options',
            'train_cfg.max_iters=2',
            'train_cfg.val_interval=2',
            'default_hooks.visualization.interval=1',
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = (tmp_path / 'out' / 'table.md').read_text()
    for config in configs:
        assert f'## {config.stem}' in table
    assert '| checkpoint | box AP | box AP50 | box AP75 |' in table
    assert '| checkpoint | mIoU |' in table and table.count('![') >= 4
    logs = {
        name: path.read_text()
        for path in (tmp_path / 'out').rglob('output.txt')
        for name in [f'{path.parents[2].name}/{path.parents[1].name}']
    }
    assert 'backbone: 75 of 75 tensors loaded' in logs[f'{configs[0].stem}/plrc']
    assert 'backbone: 100 of 100 tensors loaded' in logs[f'{configs[1].stem}/plrc']
    assert 'random weights' in logs[f'{configs[0].stem}/scratch']
