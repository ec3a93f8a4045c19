"""Whole runs through mmengine's runner, from the shipped configs."""

import json
import math
import os

import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.runner import Runner

TINY = {
    'model.backbone.depth': 18,
    'model.backbone.base_channels': 4,
    'model.queue_size': 32,
    'train_dataloader.dataset.pipeline.0.size': 64,
    'train_dataloader.batch_size': 2,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'train_dataloader.pin_memory': False,
    'default_hooks.logger.interval': 1,
}


def config(name, work_dir, **options):
    cfg = Config.fromfile(ROOT / 'configs' / name)
    cfg.merge_from_dict({**TINY, **options})
    cfg.work_dir = str(work_dir)
    # mmengine names runs by the second, and runs of one name share their log file.
    cfg.experiment_name = str(work_dir)
    return cfg


def train(cfg):
    runner = Runner.from_cfg(cfg)
    runner.train()
    with open(os.path.join(runner._log_dir, 'vis_data', 'scalars.json')) as file:
        return runner, [json.loads(line) for line in file]


@pytest.mark.parametrize('name', ['plrc_in1k.py', 'plrc_coco.py', 'mocov2_in1k.py'])
def test_pre_training_configs_run_and_log_every_term(name, image_folder, tmp_path, monkeypatch):
    monkeypatch.setenv('PLRC_DATA_ROOT', str(image_folder))
    options = {'train_cfg.max_epochs': 2}
    if name.startswith('plrc'):
        options['model.warmup_epochs'] = 1
    runner, log = train(config(name, tmp_path / 'work', **options))
    assert [entry['step'] for entry in log] == [1, 2, 3, 4, 5, 6]
    always = {'loss', 'l_m', 'top1', 'std', 'time', 'data_time', 'lr'}
    for entry in log:
        assert always <= set(entry)
        assert torch.isfinite(torch.tensor([float(v) for v in entry.values()])).all()
    if name.startswith('plrc'):
        assert 'l_a' not in log[2] and 'l_a' in log[3]
        assert all({'l_c', 'no_common_region'} <= set(entry) for entry in log)
    checkpoint = torch.load(tmp_path / 'work' / 'epoch_2.pth', weights_only=False)
    state = checkpoint['state_dict']
    assert state['queue.bank'].shape == (32, 128) and int(state['queue.bank_ptr']) == 12
    assert torch.equal(state['queue.bank'], runner.model.state_dict()['queue.bank'])
    trunk = {k[len('backbone.') :] for k in state if k.startswith('backbone.')}
    assert {'conv1.weight', 'layer1.0.conv1.weight', 'layer4.1.bn2.bias'} <= trunk
    assert list((tmp_path / 'work').rglob('events.out.tfevents*'))
    assert 'l_m rises before it falls' in next((tmp_path / 'work').rglob('*.log')).read_text()


def test_same_run_whatever_the_number_of_workers(image_folder, tmp_path, monkeypatch):
    monkeypatch.setenv('PLRC_DATA_ROOT', str(image_folder))
    logs = [
        train(
            config(
                'plrc_in1k.py',
                tmp_path / str(workers),
                **{
                    'train_cfg.max_epochs': 1,
                    'train_dataloader.num_workers': workers,
                    'train_dataloader.persistent_workers': workers > 0,
                },
            )
        )[1]
        for workers in (0, 2)
    ]
    for a, b in zip(*logs):
        assert (a['loss'], a['l_c'], a['l_m']) == (b['loss'], b['l_c'], b['l_m'])


@pytest.mark.parametrize('name', ['plrc', 'mocov2', 'regioncontrast', 'densecl', 'pixpro'])
def test_every_objective_trains_alike_on_views_augmented_on_the_device(
    name, image_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv('PLRC_DATA_ROOT', str(image_folder))
    logs = []
    for where in ('loader', 'device'):
        cfg = config(
            f'{name}_in1k.py',
            tmp_path / where,
            **{'train_cfg.max_epochs': 1, 'train_dataloader.dataset.pipeline.0.photometric': where},
        )
        if name == 'pixpro':
            del cfg.model['queue_size']
        if name == 'plrc':
            cfg.model.warmup_epochs = 0
        logs.append(train(cfg)[1])
    assert len(logs[0]) == len(logs[1]) == 3
    for entries in zip(*logs):
        assert entries[0].keys() == entries[1].keys()
        assert all(math.isfinite(value) for value in entries[1].values())
    for term, value in logs[0][0].items():  # views differ by rounding, weights after a step by more
        if term == 'loss' or term.startswith('l_'):
            assert logs[1][0][term] == pytest.approx(value, rel=0.02, abs=2e-3)


@pytest.mark.real_data
def test_real_photographs(real_data, tmp_path, monkeypatch):
    monkeypatch.setenv('PLRC_DATA_ROOT', str(real_data / 'pretrain'))
    _, log = train(
        config(
            'plrc_in1k.py',
            tmp_path,
            **{
                'train_cfg.max_epochs': 1,
                'train_dataloader.dataset.indices': 32,
                'train_dataloader.batch_size': 8,
                'model.warmup_epochs': 0,
            },
        )
    )
    assert len(log) == 4 and all(entry['l_a'] > 0 and entry['l_c'] > 0 for entry in log)
