"""Settings of the paper on data that they do not fit: a line each, with the value that fits."""

import os
import re

import pytest
from conftest import ROOT
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from PIL import Image
from runs import tiny_config, train

from plrc_plugin.recipe.misfits import Run, misfits
from plrc_plugin.recipe.rules import COCO, IMAGENET
from plrc_plugin.registry import HOOKS

FITTING = dict(
    images=5000,
    batch=32,
    steps=3120,
    epochs=20,
    queue=2048,
    momentum=0.99,
    warmup_epochs=3,
    lr=0.01,
    lr_batch=32,
    step_batch=32,
    lr_warmup=156,
    log_interval=50,
    ends_are_logged=False,
)


@pytest.mark.parametrize(
    'images, steps, epochs', [(IMAGENET, 1_000_800, 200), (COCO, 369_600, 800)]
)
def test_the_papers_settings_fit_the_papers_data(images, steps, epochs):
    paper = dict(batch=256, queue=65536, momentum=0.999, warmup_epochs=30, log_interval=50)
    paper.update(lr=0.03, lr_batch=256, step_batch=256)
    assert misfits(Run(images, steps=steps, epochs=epochs, **paper)) == []


def test_nothing_is_said_where_all_fits():
    assert misfits(Run(**FITTING)) == []


@pytest.mark.parametrize(
    'change, message, fits',
    [
        (dict(queue=65536), 'holds 13.1 keys of each image', 'model.queue_size=2048 fits'),
        (dict(queue=4096), 'holds 0.8 keys of each image', 'model.queue_size=2048 fits'),
        (
            dict(images=10**6, queue=65536, steps=160, momentum=0.9, lr_warmup=8),
            'the run sees 5120 images',
            'model.queue_size=512 fits',
        ),
        (dict(momentum=0.9995), 'averages over 2000 iterations', 'model.momentum=0.9936 fits'),
        (dict(warmup_epochs=30), 'L_a never takes part', 'model.warmup_epochs=3 fits'),
        (dict(lr_batch=256), 'a step of this run has 32', 'auto_scale_lr.base_batch_size=32 fits'),
        (dict(lr_warmup=5000), 'rises until iteration 5000', 'end=156 fits'),
        (dict(log_interval=5000), 'the log stays empty', 'logger.interval=50 fits'),
    ],
)
def test_each_misfit_is_one_line_with_the_value_that_fits(change, message, fits):
    (line,) = misfits(Run(**{**FITTING, **change}))
    assert message in line and fits in line and '\n' not in line
    path, value = re.search(r'(\w+)=(\S+) fits', fits).groups()
    names = dict(
        queue_size='queue', end='lr_warmup', interval='log_interval', base_batch_size='lr_batch'
    )
    name = names.get(path, path)
    fitting = {name: float(value) if '.' in value else int(value)}
    assert misfits(Run(**{**FITTING, **change, **fitting})) == []


@HOOKS.register_module(force=True)
class StopBeforeTraining(Hook):
    priority = 'VERY_LOW'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        raise StopIteration


@pytest.mark.parametrize(
    'epochs, fits',
    [
        (
            None,
            ['model.queue_size=2048 fits', 'lr=0.00375 auto_scale_lr.base_batch_size=32 fits'],
        ),
        (
            10,
            [
                'model.queue_size=2048 fits',
                'model.momentum=0.99 fits',
                'model.warmup_epochs=2 fits',
                'lr=0.00375 auto_scale_lr.base_batch_size=32 fits',
            ],
        ),
    ],
)
def test_readmes_old_command_on_5000_photographs(epochs, fits, tmp_path):
    """configs/plrc_in1k.py as it is, but for a small network, on a folder of 5,000 files."""
    photos = tmp_path / 'photos'
    photos.mkdir()
    Image.new('RGB', (40, 40), 'red').save(photos / '0.png')
    for i in range(1, 5000):
        os.link(photos / '0.png', photos / f'{i}.png')
    cfg = Config.fromfile(ROOT / 'configs' / 'plrc_in1k.py')
    small = {
        'train_dataloader.dataset.data_root': str(photos),
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'train_dataloader.dataset.pipeline.0.size': 64,
        'model.backbone.depth': 18,
        'model.backbone.base_channels': 4,
    }
    cfg.merge_from_dict(small)
    if epochs is not None:
        cfg.train_cfg.max_epochs = epochs
    cfg.work_dir = cfg.experiment_name = str(tmp_path / 'work')
    cfg.visualizer = dict(type='Visualizer')
    cfg.custom_hooks.append(dict(type='StopBeforeTraining'))
    with pytest.raises(StopIteration):
        RUNNERS.build(cfg).train()
    log = next(tmp_path.rglob('*.log')).read_text()
    warnings = [line for line in log.splitlines() if ' WARNING ' in line and ' fits' in line]
    assert len(warnings) == len(fits)
    for line, value in zip(warnings, fits):
        assert value in line


def test_a_warm_up_that_ends_in_time_is_not_named(image_folder, tmp_path):
    train(tiny_config(image_folder, tmp_path, **{'model.momentum': 0.5}))
    assert 'never takes part' not in next(tmp_path.rglob('*.log')).read_text()
