"""A number of the model that follows a schedule."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from plrc_plugin.engine.hooks.schedule import ScheduleHook
from plrc_plugin.errors import SettingsError


@pytest.mark.parametrize(
    'curve, shape',
    [('linear', lambda x: x), ('cosine', lambda x: 0.5 - 0.5 * math.cos(math.pi * x))],
)
def test_schedule_follows_its_curve(curve, shape):
    hook = ScheduleHook('momentum', 0.99, 1.0, begin_epoch=2, end_epoch=6, curve=curve)
    for epoch in np.linspace(0, 8, 33):
        expected = 0.99 + 0.01 * shape(min(max((epoch - 2) / 4, 0), 1))
        assert hook.value_at(epoch, 100) == pytest.approx(expected, abs=1e-12)
    assert ScheduleHook('momentum', 1, 3).value_at(5, 10) == 2
    assert hook.value_at(0, 100) == 0.99 and hook.value_at(6, 100) == 1.0


@pytest.mark.parametrize(
    'setting, message',
    [
        (dict(start='x'), 'start must be a number'),
        (dict(end=None), 'end must be a number'),
        (dict(begin_epoch=3, end_epoch=3), 'begin_epoch < end_epoch'),
        (dict(begin_epoch=-1), 'begin_epoch < end_epoch'),
        (dict(curve='step'), 'curve must be one of'),
    ],
)
def test_schedule_settings(setting, message):
    with pytest.raises(SettingsError, match=f'ScheduleHook: .*{message}'):
        ScheduleHook(**{**dict(attribute='momentum', start=0.0, end=1.0), **setting})


@pytest.mark.parametrize('attribute', ['nothing', 'backbone', 'affinity_distillation.nothing'])
def test_schedule_of_something_that_is_no_number(attribute):
    with pytest.raises(SettingsError, match=f"attribute='{attribute}' is not a number of"):
        ScheduleHook(attribute, 0.0, 1.0).before_train(SimpleNamespace(model=object()))


@HOOKS.register_module(force=True)
class SeenTemperatures(Hook):
    priority = 'VERY_LOW'

    def __init__(self, seen):
        self.seen = seen

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen[runner.iter] = (
            runner.model.affinity_distillation.teacher_temperature,
            runner.message_hub.get_scalar('train/teacher_temperature').current(),
        )


def test_schedule_of_a_resumed_run_is_that_of_the_whole(image_folder, tmp_path, monkeypatch):
    monkeypatch.setenv('PLRC_DATA_ROOT', str(image_folder))

    def temperatures(work_dir, epochs, resume=False):
        cfg = Config.fromfile(ROOT / 'configs/plrc_in1k.py')
        cfg.merge_from_dict(
            {
                'model.backbone.depth': 18,
                'model.backbone.base_channels': 4,
                'model.queue_size': 32,
                'train_dataloader.dataset.pipeline.0.size': 64,
                'train_dataloader.batch_size': 2,
                'train_dataloader.num_workers': 0,
                'train_dataloader.persistent_workers': False,
                'train_dataloader.pin_memory': False,
                'train_cfg.max_epochs': epochs,
                'model.warmup_epochs': 1,
            }
        )
        seen = {}
        hook = SeenTemperatures(seen)
        cfg.custom_hooks.append(
            dict(
                type='plrc_plugin.ScheduleHook',
                start=0.04,
                end=0.07,
                end_epoch=2,
                attribute='affinity_distillation.teacher_temperature',
            )
        )
        cfg.resume, cfg.visualizer = resume, dict(type='Visualizer')
        cfg.work_dir = cfg.experiment_name = str(work_dir)
        runner = Runner.from_cfg(cfg)
        runner.register_hook(hook)
        runner.train()
        return seen

    whole = temperatures(tmp_path / 'whole', 3)
    parts = temperatures(tmp_path / 'parts', 1)
    parts.update(temperatures(tmp_path / 'parts', 3, resume=True))
    assert parts == whole and len(whole) == 9
    for iteration, (value, logged) in whole.items():
        assert value == logged == pytest.approx(min(0.04 + 0.03 * iteration / 6, 0.07))


def test_a_loop_that_counts_iterations_has_a_length_too():
    """Its max_epochs is 1: numbers would have arrived after the first epoch."""
    model = SimpleNamespace(momentum=0.0)
    model.get_submodule = lambda name: model
    hub = SimpleNamespace(update_scalar=lambda name, value: None)
    runner = SimpleNamespace(
        model=model, message_hub=hub, train_dataloader=[0] * 10, max_epochs=1, max_iters=40
    )
    for iteration, value in [(0, 0.0), (10, 0.25), (40, 1.0)]:
        runner.iter = iteration
        ScheduleHook('momentum', 0.0, 1.0).before_train_iter(runner, 0)
        assert model.momentum == value
