"""docs/extending.md, followed literally: each recipe adds its part from outside the package."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.registry import RUNNERS

from plrc_plugin.datasets.scenes import make_scenes
from plrc_plugin.visualization.curves import is_term, read_scalars

PAGE = (ROOT / 'docs/extending.md').read_text()
FILES = dict(re.findall(r'```python\n# (\w+\.py)\n(.*?)```', PAGE, re.S))
TINY = {
    'train_dataloader.dataset.num_train': 8,
    'train_dataloader.dataset.num_val': 2,
    'train_dataloader.batch_size': 4,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'train_cfg.max_epochs': 1,
    'train_cfg.val_interval': 1,
    'model.queue_size': 16,
    'model.backbone.base_channels': 4,
    'default_hooks.checkpoint.save_best': None,
    'default_hooks.logger.interval': 1,
    'val_dataloader.dataset.fit.max_images': 4,
    'val_dataloader.batch_size': 2,
}


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    return make_scenes(tmp_path_factory.mktemp('data') / 'scenes', 8, 2, progress=False)


@pytest.fixture
def folder(tmp_path, scenes, monkeypatch):
    """The folder of the page: its modules and configs, and a checkout beside them."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / 'plrc_plugin').symlink_to(ROOT)
    monkeypatch.setenv('PLRC_SCENES', str(scenes))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in FILES:  # other tests have modules of these names
        monkeypatch.delitem(sys.modules, Path(name).stem, raising=False)
    yield tmp_path
    for name in FILES:
        sys.modules.pop(Path(name).stem, None)


def train(name, folder, **more):
    """A run of two iterations with a config of the page."""
    cfg = Config.fromfile(folder / name)
    options = {**TINY, **more}
    if 'AffinityHook' in str(cfg.custom_hooks):
        cfg.custom_hooks = [h for h in cfg.custom_hooks if 'Affinity' not in h['type']]
    cfg.merge_from_dict({k: v for k, v in options.items() if v is not None})
    cfg.default_hooks.checkpoint.pop('save_best', None)
    cfg.work_dir = str(folder / 'work')
    runner = RUNNERS.build(cfg)
    runner.train()
    return runner


def modules():
    return [name for name in FILES if name.startswith('my_')]


def test_the_page_has_its_six_recipes():
    assert len(modules()) == 6 and len(FILES) == 11  # a target needs no config
    for heading in re.findall(r'\]\(#([\w-]+)\)', PAGE):
        assert f'\n## {heading.replace("-", " ")}\n'.lower() in PAGE.lower()


def test_a_region_source(folder):
    runner = train('rings.py', folder)
    assert type(runner.train_dataloader.dataset.pipeline.transforms[1].regions).__name__ == 'Rings'
    for batch in runner.train_dataloader:
        assert set(batch['query'].regions.unique().tolist()) <= {0, 1, 2}


def test_a_distillation_strategy(folder):
    runner = train('strategy.py', folder)
    assert runner.model.strategy == 'both_in_key_view'
    assert 'l_a' in read_scalars(folder / 'work')


def test_a_dense_objective(folder):
    runner = train('objective.py', folder)
    assert type(runner.model).__name__ == 'PointAlignment'
    scalars = read_scalars(folder / 'work')
    assert len(scalars['l_align']) == 2 and is_term('l_align')
    # Logged as the mean over the window, like the terms of the package.
    history = runner.message_hub.get_scalar('train/l_align').data[0]
    assert scalars['l_align'][1][1] == pytest.approx(np.mean(history), abs=2e-4)
    assert scalars['loss'][0][1] == pytest.approx(
        scalars['l_m'][0][1] + 0.5 * scalars['l_align'][0][1], abs=1e-3
    )


def test_an_augmentation_step(folder):
    runner = train('solarise.py', folder)
    steps = runner.train_dataloader.dataset.pipeline.transforms[0].steps
    assert list(steps) == ['ColorJitter', 'Solarise', 'GaussianBlur']
    image = np.full((2, 2, 3), 200, np.uint8)
    assert (steps['Solarise'].apply(image, 100) == 55).all()


def tool(folder, name, *arguments):
    """A tool as the page starts it, without mim around it."""
    environment = dict(os.environ, PYTHONPATH=f'{folder}{os.pathsep}{ROOT}')
    done = subprocess.run(
        [sys.executable, ROOT / f'tools/{name}.py', *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_an_export_target(folder, trunk18):
    command = re.search(r'export_checkpoint (epoch_1.pth .*)', PAGE)[1].split()
    torch.save({f'backbone.{k}': v for k, v in trunk18.items()}, folder / 'epoch_1.pth')
    tool(folder, 'export_checkpoint', *command)
    with np.load(folder / 'trunk.npz') as arrays:
        assert set(arrays.files) == set(trunk18)
        assert np.array_equal(arrays['conv1.weight'], trunk18['conv1.weight'].numpy())


@pytest.mark.slow
def test_a_probe_in_validation_and_by_the_tool(folder):
    runner = train('probe.py', folder)
    logged = [
        json.loads(line)
        for file in (folder / 'work').rglob('scalars.json')
        for line in file.read_text().splitlines()
    ]
    validated = [entry['foreground/length'] for entry in logged if 'foreground/length' in entry]
    assert len(validated) == 1 and validated[0] > 0
    assert any('knn_seg/mIoU' in entry for entry in logged)
    assert runner.val_evaluator is not None
    command = re.search(r'probe (probe.py .*)', PAGE)[1].split()
    options = [f'{k}={v}' for k, v in TINY.items() if k.startswith('val_dataloader') and v]
    out = tool(folder, 'probe', *command, '--cfg-options', *options)
    assert 'foreground/length' in out and 'knn_seg/mIoU' in out
