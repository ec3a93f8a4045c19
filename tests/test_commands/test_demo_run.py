"""`make demo` for 20 iterations of 8 scenes, by its own commands."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from plrc_plugin.checkpoints.safe_reading import load_tensors

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = (
    'train_dataloader.dataset.num_train=80',
    'train_dataloader.dataset.num_val=4',
    'train_dataloader.batch_size=8',
    'train_cfg.max_epochs=2',
    'train_cfg.val_interval=2',
    'model.warmup_epochs=1',
    'default_hooks.logger.interval=1',
    'val_dataloader.dataset.fit.max_images=8',
)


def command(tool: str, *arguments) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / 'tools' / tool, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.stack
@pytest.mark.slow
def test_twenty_iterations_of_the_demo(tmp_path, monkeypatch):
    scenes, work_dir = tmp_path / 'scenes', tmp_path / 'run'
    monkeypatch.setenv('PLRC_SCENES', str(scenes))
    command('make_scenes.py', scenes, '--num-train', '80', '--num-val', '4', '--quiet')
    config = ROOT / 'configs' / 'plrc_demo.py'
    command('train.py', config, '--work-dir', work_dir, '--cfg-options', *SETTINGS)

    (log,) = work_dir.glob('*/vis_data/scalars.json')
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [entry for entry in entries if 'loss' in entry]
    assert [entry['step'] for entry in steps] == list(range(1, 21))
    assert all(math.isfinite(value) for entry in entries for value in entry.values())
    assert all({'l_m', 'l_c'} <= entry.keys() for entry in steps)
    assert [('l_a' in entry) for entry in steps] == [False] * 10 + [True] * 10
    assert any('knn_seg/mIoU' in entry for entry in entries)

    checkpoint = load_tensors((work_dir / 'last_checkpoint').read_text())
    state = checkpoint['state_dict']
    assert int(state['queue.bank_ptr']) == 160 and checkpoint['meta']['iter'] == 20
    weights = [state[f'{prefix}backbone.conv1.weight'] for prefix in ('', 'momentum_')]
    distance = (weights[0] - weights[1]).norm() / weights[0].norm()
    assert 0 < distance < 0.5  # the average follows the weights, and lags behind
    command('plot_losses.py', work_dir)
