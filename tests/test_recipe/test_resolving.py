"""``'auto'`` in configs: resolved before anything is built, recorded, refused where nobody does."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image
from runs import (
    TINY,
    assert_same_run,
    finish,
    make_images,
    records,
    run_processes,
    start,
    tiny_config,
    train,
)

from plrc_plugin.auto import AUTO, places, unresolved
from plrc_plugin.errors import SettingsError
from plrc_plugin.recipe import resolving, trial
from plrc_plugin.recipe.resolving import resolve
from plrc_plugin.registry import MODELS

# Of TINY what 'auto' would decide is left to it.
SMALL = {
    'model.backbone.depth': 18,
    'model.backbone.base_channels': 4,
    'model.backbone.strides': (1, 2, 2, 1),
    'train_dataloader.dataset.pipeline.0.size': 48,
    'optim_wrapper.type': 'OptimWrapper',
    'train_cfg.max_epochs': 2,
}


def photos_config(images: Path, work_dir: Path, **options) -> Config:
    cfg = Config.fromfile(ROOT / 'configs' / 'plrc_photos.py')
    given = {**SMALL, 'train_dataloader.dataset.data_root': str(images), **options}
    cfg.merge_from_dict({k: v for k, v in given.items() if v is not None})
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = str(work_dir).strip('/').replace('/', '_')
    cfg.visualizer = dict(type='Visualizer')
    cfg.env_cfg.cudnn_benchmark = False
    cfg.custom_hooks.append(dict(type='RecordHook'))
    return cfg


def moco_config(images: Path, **options) -> Config:
    cfg = Config.fromfile(ROOT / 'configs' / 'mocov2_in1k.py')
    tiny = {k: v for k, v in TINY.items() if 'pipeline.1' not in k and 'warmup' not in k}
    cfg.merge_from_dict({**tiny, 'train_dataloader.dataset.data_root': str(images), **options})
    return cfg


def log_of(work_dir: Path) -> str:
    return '\n'.join(path.read_text() for path in sorted(Path(work_dir).rglob('*.log')))


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp('auto') / 'images', count=40)


def test_every_auto_is_resolved_printed_and_saved(images, tmp_path):
    cfg = photos_config(images, tmp_path / 'run')
    asked = {place.path for place in unresolved(cfg)}
    assert len(asked) == 15
    runner = train(cfg)
    assert unresolved(cfg), 'the config of the caller stays as it was'
    assert len(runner.model.queue.bank) == 16 and runner.model.momentum == 0.7
    assert runner.model.mask_own_keys and runner.train_dataloader.batch_size == 8
    assert [g['initial_lr'] for g in runner.optim_wrapper.param_groups] == [0.03 * 8 / 256]
    log = log_of(tmp_path)
    table = log.partition('Settings that depend on the data')[2]
    rows = {line.split()[0]: line for line in table.splitlines()[2:25] if line.startswith('  ')}
    assert asked <= set(rows)
    for path in asked:
        assert '  rule  ' in rows[path] and len(rows[path].split('  rule  ')[1]) > 9, path
    assert '  by hand' in rows['train_cfg.max_epochs']
    saved = Config.fromfile(runner.cfg.filename and next((tmp_path / 'run').glob('*.py')))
    assert AUTO not in [place.value for place in places(saved)]
    assert saved.train_dataloader.batch_size == 8
    record = json.loads((tmp_path / 'run' / 'recipe.json').read_text())
    assert record['facts']['images'] == 40
    assert asked <= {row['setting'] for row in record['settings']}


def test_the_saved_config_resumes_the_run_bit_for_bit(images, tmp_path):
    train(photos_config(images, tmp_path / 'whole', **{'train_cfg.max_epochs': 3}))
    child = start(photos_config(images, tmp_path / 'run', **{'train_cfg.max_epochs': 3}))
    while not (tmp_path / 'run' / 'epoch_1.pth').exists():
        child.join(0.05)
    os.kill(child.pid, signal.SIGKILL)
    assert finish(child) == 'killed'
    saved = Config.fromfile(next((tmp_path / 'run').glob('*.py')))
    assert not unresolved(saved)
    saved.resume = True
    train(saved)
    assert_same_run(tmp_path / 'run', tmp_path / 'whole')


def test_a_resumed_run_keeps_its_values_and_a_new_budget_its_length(images, tmp_path):
    options = {'train_cfg.max_epochs': None, 'budget.epochs': 2}
    cfg = photos_config(images, tmp_path / 'run', **options)
    cfg.train_cfg.max_epochs = AUTO
    train(cfg)
    make_images(tmp_path / 'more', count=80)
    cfg = photos_config(tmp_path / 'more', tmp_path / 'run', **options)
    cfg.train_cfg.max_epochs, cfg.resume, cfg.budget.epochs = AUTO, True, 3
    runner = train(cfg)
    assert len(runner.model.queue.bank) == 16 and runner.train_dataloader.batch_size == 8
    assert runner.max_epochs == 3
    assert '  as before  ' in log_of(tmp_path / 'run')


def test_auto_in_any_config_and_all_else_by_hand(images, tmp_path):
    cfg = moco_config(images, **{'model.queue_size': AUTO, 'optim_wrapper.optimizer.lr': AUTO})
    cfg.work_dir = cfg.experiment_name = str(tmp_path)
    cfg.auto_scale_lr.enable = True
    runner = train(cfg)
    assert len(runner.model.queue.bank) == 16
    # The rule has scaled it already: mmengine does not once more.
    assert runner.optim_wrapper.param_groups[0]['initial_lr'] == float(f'{0.03 * 4 / 256:.4g}')


def test_a_config_without_auto_gets_no_table_and_no_record(images, tmp_path):
    train(tiny_config(images, tmp_path))
    assert 'Settings that depend' not in log_of(tmp_path)
    assert not (tmp_path / 'recipe.json').exists()


def test_values_of_others_called_auto_are_left_alone(images, tmp_path):
    cfg = tiny_config(images, tmp_path, **{'model.queue_size': AUTO})
    cfg.default_hooks.checkpoint.save_best = AUTO  # mmengine's own
    resolve(cfg)
    assert cfg.model.queue_size == 16 and cfg.default_hooks.checkpoint.save_best == AUTO


@pytest.mark.parametrize(
    'path, config',
    [
        ('model.queue_size', 'mocov2_in1k.py'),
        ('model.momentum', 'plrc_in1k.py'),
        ('model.warmup_epochs', 'plrc_in1k.py'),
        ('optim_wrapper.optimizer.lr', 'plrc_in1k.py'),
        ('optim_wrapper.type', 'plrc_in1k.py'),
        ('train_cfg.max_epochs', 'plrc_in1k.py'),
        ('train_dataloader.batch_size', 'plrc_in1k.py'),
        ('default_hooks.checkpoint.interval', 'plrc_in1k.py'),
    ],
)
@pytest.mark.stack
def test_under_mmengines_own_runner_an_auto_is_one_line(path, config, images, tmp_path):
    if config.startswith('moco'):
        cfg = moco_config(images, **{path: AUTO})
    else:
        cfg = tiny_config(images, tmp_path, **{path: AUTO})
    cfg.work_dir, cfg.experiment_name = str(tmp_path), tmp_path.name
    with pytest.raises(SettingsError) as caught:
        Runner.from_cfg(cfg).train()
    message = str(caught.value)
    assert f"{path}='auto'" in message and 'PretrainRunner' in message and '\n' not in message


def test_a_budget_in_hours_is_timed(images, tmp_path, monkeypatch):
    cfg = photos_config(images, tmp_path, **{'budget.hours': 0.01})
    cfg.train_cfg.max_epochs = AUTO
    monkeypatch.setattr(trial, 'ENOUGH_SECONDS', 0.2)
    recipe = resolve(cfg)
    row = next(row for row in recipe.rows if row.setting == 'train_cfg.max_epochs')
    seconds = float(row.rule.partition(' at ')[2].split()[0])
    assert row.value == pytest.approx(36 / (5 * seconds), rel=0.1, abs=1)
    assert cfg.train_cfg.max_epochs == row.value >= 1
    assert not cfg.budget and not unresolved(cfg)


def test_a_budget_that_pays_for_no_epoch_is_one_line(images, tmp_path, monkeypatch):
    cfg = photos_config(images, tmp_path, **{'budget.hours': 1e-7})
    cfg.train_cfg.max_epochs = AUTO
    monkeypatch.setattr(trial, 'ENOUGH_SECONDS', 0.2)
    with pytest.raises(SettingsError, match='is less than one epoch .* give at least') as caught:
        train(cfg)
    assert '\n' not in str(caught.value)


def test_a_budget_beside_a_length_is_refused(images, tmp_path):
    with pytest.raises(SettingsError, match='max_epochs only if that is auto, and it is 2'):
        train(photos_config(images, tmp_path, **{'budget.epochs': 5}))
    cfg = tiny_config(images, tmp_path)
    cfg.budget = dict(hours=2)  # of a config without any 'auto'
    with pytest.raises(SettingsError, match='max_epochs only if that is auto, and it is 2'):
        train(cfg)


def test_on_a_gpu_a_batch_is_halved_until_it_fits(images, tmp_path, monkeypatch):
    """Of a GPU that holds two images, feigned: what is tried, and what becomes of it."""
    tried = []

    def try_steps(cfg, most):
        tried.append(cfg.train_dataloader.batch_size)
        if tried[-1] > 4:
            raise trial.torch.cuda.OutOfMemoryError
        return trial.Trial(1.0, 0.9 if tried[-1] == 4 else 0.5)

    monkeypatch.setattr(trial, 'try_steps', try_steps)
    facts = resolving.Facts(40, 60, gpu=True, cores=1)
    monkeypatch.setattr(resolving, 'gather', lambda *_: facts)
    cfg = photos_config(images, tmp_path)
    resolve(cfg)
    assert tried == [8, 4, 2]
    assert cfg.train_dataloader.batch_size == 2 and cfg.train_dataloader.pin_memory is True


def test_all_processes_of_a_run_get_the_same_values(images, tmp_path):
    cfg = photos_config(images, tmp_path / 'run', **{'randomness.seed': 0})
    cfg.budget = dict()
    assert run_processes(cfg, 2) == ['', '']
    rank0, rank1 = records(tmp_path / 'run', 0), records(tmp_path / 'run', 1)
    assert len(rank0) == len(rank1) == 2 * (20 // 4)  # 40 images, 2 processes of 4
    record = json.loads((tmp_path / 'run' / 'recipe.json').read_text())
    assert record['facts']['processes'] == 2


def test_a_mistake_ends_all_processes(tmp_path):
    make_images(tmp_path / 'three', count=3)
    errors = run_processes(photos_config(tmp_path / 'three', tmp_path / 'run'), 2)
    assert all('3 images are too few' in error for error in errors)


def test_images_of_32_pixels_and_jsons_of_labels_among_them(tmp_path):
    folder = make_images(tmp_path / 'images', count=12, side=32)
    for image in list(folder.iterdir()):
        image.with_suffix('.json').write_text('{"shapes": []}')
    cfg = photos_config(folder, tmp_path / 'run')
    cfg.train_dataloader.dataset.pipeline[0].size = AUTO
    cfg.train_dataloader.batch_size = AUTO
    runner = train(cfg)
    assert len(runner.train_dataloader.dataset) == 12 and runner.train_dataloader.batch_size == 2
    assert runner.cfg.train_dataloader.dataset.pipeline[0].size == 64
    assert 'it enlarges images of mostly 32 pixels' in log_of(tmp_path)


@pytest.mark.parametrize('count, message', [(3, '3 images are too few'), (0, 'holds no image')])
def test_hardly_any_images_are_one_line(count, message, tmp_path):
    (tmp_path / 'images').mkdir()
    for i in range(count):
        Image.new('RGB', (32, 32)).save(tmp_path / 'images' / f'{i}.png')
    with pytest.raises(SettingsError, match=message) as caught:
        train(photos_config(tmp_path / 'images', tmp_path / 'run'))
    assert '\n' not in str(caught.value)


def test_a_long_epoch_has_checkpoints_within(images, tmp_path, monkeypatch):
    facts = resolving.Facts(10**8, 375, cores=2)
    monkeypatch.setattr(resolving, 'gather', lambda *_: facts)
    cfg = photos_config(images, tmp_path)
    resolve(cfg)
    hook = cfg.default_hooks.checkpoint
    assert hook.by_epoch is False and hook.interval == 200


def test_the_rate_rises_and_falls_as_the_schedules_say(images, tmp_path, plrc_checkpoint):
    """From weights: 5% of the iterations to the full rate, then a cosine to 0."""
    cfg = photos_config(images, tmp_path / 'run', **{'train_cfg.max_epochs': 10})
    cfg.pretrained = str(tmp_path / 'start.pth')
    torch.save(MODELS.build(cfg.model.backbone).state_dict(), cfg.pretrained)
    runner = train(cfg)
    assert runner.cfg.param_scheduler[0].end == 2 and runner.model.warmup_epochs == 0
    assert runner.model.keep.norm_eval and not runner.model.backbone.bn1.training
    lines = [
        line.partition('lr: ')[2].split()[0]
        for line in log_of(tmp_path / 'run').splitlines()
        if 'Epoch(train)' in line
    ]
    rates = [float(rate) for rate in lines]
    assert rates[0] < 0.02 * rates[2] and max(rates) == pytest.approx(0.0025, rel=0.02)
    assert rates[-1] < 0.05 * max(rates)
