"""Whatever a loss returns is logged as its mean over the window, and drawn."""

import json

import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from runs import make_images, records, terms, tiny_config, train

from plrc_plugin.models.moco import MomentumContrast
from plrc_plugin.registry import MODELS
from plrc_plugin.visualization.curves import plot_curves
from plrc_plugin.visualization.report import all_curves
from plrc_plugin.visualization.run import read_run

WINDOW = 3
# By which the log of earlier versions knew what to average.
EARLIER = r'.*(loss|l_(m|c|a|dense|pix)|top1|std|no_common|no_near|time|grad_norm).*'


@MODELS.register_module(force=True)
class WithOwnTerms(MomentumContrast):
    """A term and an indicator that no file of the package names."""

    def loss(self, query, key):
        losses = super().loss(query, key)
        own = dict(l_birds=losses['l_m'] ** 2, seen=torch.rand(()))
        return dict(losses, loss=losses['loss'] + own['l_birds'], **own)


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp('data') / 'images', count=16)


def run(images, work_dir, method=None, kind=None, hooks=(), **options):
    """A tiny run of PLRC, or with the model of another config."""
    cfg = tiny_config(images, work_dir, **{'log_processor.window_size': WINDOW, **options})
    if method is not None:
        model = Config.fromfile(ROOT / 'configs' / method).model
        cfg.model = dict(model, backbone=cfg.model.backbone, type=kind or model.type)
        if 'queue_size' in model:
            cfg.model.queue_size = 40
    cfg.custom_hooks += list(hooks)
    cfg.experiment_name = str(work_dir)
    cfg.visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
    train(cfg)


def logged(work_dir):
    (file,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_terms_of_a_model_from_outside(images, tmp_path):
    run(images, tmp_path, 'mocov2_in1k.py', kind='WithOwnTerms')
    seen = [terms(lines[0]) for _, lines in sorted(records(tmp_path).items())]
    lines = logged(tmp_path)
    assert len(lines) == len(seen) == 8
    for name in ('l_birds', 'seen', 'l_m', 'loss'):
        for i, line in enumerate(lines):
            window = [values[name] for values in seen[max(0, i + 1 - WINDOW) : i + 1]]
            assert line[name] == pytest.approx(sum(window) / len(window)), (name, i)
    assert {'l_birds', 'seen'} <= all_curves(read_run(tmp_path)).keys()
    drawn = {line.get_label() for axes in plot_curves(tmp_path).axes for line in axes.lines}
    assert {'l_birds', 'seen', 'total'} <= drawn


def test_settings_are_no_means(images, tmp_path):
    schedule = dict(type='ScheduleHook', attribute='temperature', start=0.1, end=0.5)
    run(images, tmp_path, 'mocov2_in1k.py', hooks=[schedule])
    found = [line['temperature'] for line in logged(tmp_path)]
    assert found == pytest.approx([0.1 + 0.4 * i / 8 for i in range(8)])


@pytest.mark.parametrize('method', [None, 'densecl_in1k.py', 'pixpro_in1k.py'])
def test_numbers_of_the_package_are_those_of_earlier_versions(method, images, tmp_path):
    run(images, tmp_path / 'now', method)
    run(images, tmp_path / 'then', method, **{'log_processor.mean_pattern': EARLIER})
    clocks = ('time', 'data_time')
    now, then = (
        [{k: v for k, v in line.items() if k not in clocks} for line in logged(tmp_path / name)]
        for name in ('now', 'then')
    )
    assert now == then and len(now) == 8
