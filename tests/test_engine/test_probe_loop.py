"""Probes during training: it goes on to the same bits, they are logged, and the best is kept."""

import json
import os

import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from runs import assert_same_run, make_images, run_processes, tiny_config, train

from plrc_plugin.checkpoints.encoder import load_encoder
from plrc_plugin.checkpoints.work_dir import newest_intact_checkpoint
from plrc_plugin.datasets.scenes.writing import make_scenes
from plrc_plugin.engine.hooks.checkpoint import AtomicCheckpointHook
from plrc_plugin.errors import SettingsError
from plrc_plugin.evaluation.cells import ProbeCells
from plrc_plugin.evaluation.clean_statistics import CleanStatistics, renew_statistics
from plrc_plugin.evaluation.probes import evaluate_encoder

PROBES = Config.fromfile(ROOT / 'configs/_base_/probes.py').val_evaluator


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp('data') / 'images', count=8)


@pytest.fixture(scope='module')
def cells(tmp_path_factory):
    root = make_scenes(tmp_path_factory.mktemp('s') / 'scenes', 6, 4, progress=False)
    return dict(
        size=64,
        cells=8,
        **{
            key: dict(
                type='plrc_plugin.COCOMasks',
                images=str(root / split),
                annotations=str(root / f'annotations/instances_{split}.json'),
            )
            for key, split in (('fit', 'train'), ('score', 'val'))
        },
    )


def probed(cfg, cells, **loop):
    cfg.val_dataloader = dict(
        batch_size=4,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
        dataset=dict(type='plrc_plugin.ProbeCells', **cells),
    )
    cfg.val_cfg = dict(type='plrc_plugin.ProbeLoop', **loop)
    cfg.val_evaluator = PROBES
    cfg.train_cfg.val_interval = 1
    return cfg


def run(images, work_dir, cells=None, loop=None, **options):
    cfg = tiny_config(images, work_dir, **{'train_cfg.max_epochs': 3, **options})
    cfg.experiment_name = str(work_dir)
    cfg.visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
    return train(cfg if cells is None else probed(cfg, cells, **(loop or {})))


def validations(work_dir):
    lines = [
        json.loads(line)
        for file in sorted(work_dir.glob('*/vis_data/scalars.json'))
        for line in file.read_text().splitlines()
    ]
    return [line for line in lines if 'linear_seg/mIoU' in line]


@pytest.fixture(scope='module')
def runs(images, cells, tmp_path_factory):
    """A run without probes, and the same with them."""
    plain, with_probes = (tmp_path_factory.mktemp(name) for name in ('plain', 'probed'))
    run(images, plain)
    runner = run(
        images,
        with_probes,
        cells,
        **{'default_hooks.checkpoint.save_best': ['linear_seg/mIoU', 'affinity/auc']},
    )
    return plain, with_probes, runner


def test_training_is_the_same_bit_for_bit(runs):
    assert_same_run(runs[1], runs[0])


def test_what_is_logged_is_what_the_function_gives(runs, cells):
    logged = validations(runs[1])
    assert [line['step'] for line in logged] == [1, 2, 3]
    expected = evaluate_encoder(runs[2].model, ProbeCells(**cells), PROBES, batch_size=4)
    assert {name.split('/')[0] for name in expected} == {
        'linear_seg',
        'knn_seg',
        'affinity',
        'classify',
    }
    for name, value in expected.items():
        assert logged[-1][name] == pytest.approx(value), name
    assert logged[0]['affinity/auc'] != logged[2]['affinity/auc']


def test_best_checkpoints_are_kept(runs):
    _, folder, _ = runs
    logged = validations(folder)
    for name in ('linear_seg/mIoU', 'affinity/auc'):
        best = max(logged, key=lambda line: line[name])['step']
        found = [p.name for p in folder.glob(f'best_{name.replace("/", "_")}_*')]
        assert found == [f'best_{name.replace("/", "_")}_epoch_{best}.pth']
        state = torch.load(folder / found[0], weights_only=False)
        assert 'optimizer' not in state and 'backbone.conv1.weight' in state['state_dict']
        # What resumes knows the best of its own epoch too.
        last = torch.load(folder / 'epoch_3.pth', weights_only=False)
        assert last['message_hub']['runtime_info'][f'best_ckpt_{name}'].endswith(found[0])
    assert not list(folder.glob('*being_written'))


def test_a_best_checkpoint_is_nothing_to_resume_from(runs):
    folder = runs[1]
    best = next(folder.glob('best_*'))
    os.utime(best)
    (folder / 'last_checkpoint').unlink()
    assert newest_intact_checkpoint(str(folder)).endswith('epoch_3.pth')


def test_a_best_checkpoint_elsewhere_is_not_removed(runs, tmp_path):
    runner = runs[2]
    elsewhere = tmp_path / 'best_of_all.pth'
    elsewhere.touch()
    hub = runner.message_hub
    hub.update_info('best_ckpt_affinity/auc', str(elsewhere))
    hub.update_info('best_score_affinity/auc', -1)
    hook = next(hook for hook in runner.hooks if isinstance(hook, AtomicCheckpointHook))
    hook._save_best_checkpoint(runner, {'linear_seg/mIoU': -1, 'affinity/auc': 0.5})
    assert hub.get_info('best_score_affinity/auc') == 0.5
    assert elsewhere.exists()


def test_a_full_disk_costs_no_earlier_best(images, cells, tmp_path, monkeypatch):
    from mmengine.runner import Runner

    save, tried = Runner.save_checkpoint, []

    def full(self, out_dir, filename, *args, **kwargs):
        save(self, out_dir, filename, *args, **kwargs)
        tried.append(filename)
        if sum(name.startswith('best_') for name in tried) > 1:
            raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Runner, 'save_checkpoint', full)
    # Every validation counts as the best.
    monkeypatch.setattr(AtomicCheckpointHook, 'rule_map', dict(greater=lambda new, best: True))
    with pytest.raises(RuntimeError, match='best_affinity_auc_epoch_2.pth .*No space left'):
        run(images, tmp_path, cells, **{'default_hooks.checkpoint.save_best': 'affinity/auc'})
    assert [p.name for p in tmp_path.glob('best_*')] == ['best_affinity_auc_epoch_1.pth']


@pytest.mark.parametrize('projected', [False, True])
def test_momentum_encoder_by_option(images, cells, tmp_path, projected):
    runner = run(
        images,
        tmp_path,
        cells,
        dict(momentum=True, projected=projected),
        **{'train_cfg.max_epochs': 1},
    )
    model = runner.model
    found = validations(tmp_path)[0]
    model.backbone, model.projector = model.momentum_backbone, model.momentum_projector
    expected = evaluate_encoder(model, ProbeCells(**cells), PROBES, projected, batch_size=4)
    assert found['affinity/auc'] == pytest.approx(expected['affinity/auc'])


def test_two_processes_share_the_images(images, cells, tmp_path):
    cfg = probed(
        tiny_config(
            images, tmp_path, **{'train_cfg.max_epochs': 1, 'train_dataloader.batch_size': 2}
        ),
        cells,
    )
    cfg.visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
    assert run_processes(cfg, 2) == ['', '']
    model = load_encoder(cfg, str(tmp_path / 'epoch_1.pth'))
    expected = evaluate_encoder(model, ProbeCells(**cells), PROBES, batch_size=4)
    (found,) = validations(tmp_path)
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_statistics_of_photographs_are_those_of_the_validation_alone(images, cells, runs, tmp_path):
    loop = dict(statistics=6, statistics_size=64)
    runner = run(
        images, tmp_path, cells, loop, **{'default_hooks.checkpoint.save_best': 'affinity/auc'}
    )
    assert_same_run(tmp_path, runs[0])
    (best,) = tmp_path.glob('best_*')
    epoch = torch.load(tmp_path / f'{best.stem.split("_", 3)[-1]}.pth', weights_only=False)
    of_best = torch.load(best, weights_only=False)['state_dict']
    assert all(torch.equal(v, epoch['state_dict'][k]) for k, v in of_best.items())
    photographs = CleanStatistics(photographs=6, size=64).images(runner.cfg)
    told = renew_statistics(runner.model, photographs)
    assert told == 'batch-norm statistics: of 6 photographs of 64 x 64 pixels'
    assert told in next(tmp_path.glob('*/*.log')).read_text()
    expected = evaluate_encoder(runner.model, ProbeCells(**cells), PROBES, batch_size=4)
    assert {name: validations(tmp_path)[-1][name] for name in expected} == pytest.approx(expected)
    assert expected['affinity/auc'] != validations(runs[1])[-1]['affinity/auc']


def test_too_few_photographs_end_the_run_before_training(images, cells, tmp_path):
    cfg = probed(tiny_config(images, tmp_path), cells, statistics=9)
    with pytest.raises(SettingsError, match='9 photographs: there are 8'):
        train(cfg)
    assert not (tmp_path / 'losses_0.txt').exists()


def test_another_data_set_ends_the_run_before_training(images, cells, tmp_path):
    cfg = probed(tiny_config(images, tmp_path), cells)
    cfg.val_dataloader.dataset = dict(type='plrc_plugin.ImageFolder', data_root=str(images))
    with pytest.raises(SettingsError, match='must be plrc_plugin.ProbeCells'):
        train(cfg)
    assert not (tmp_path / 'losses_0.txt').exists()


def test_half_precision_is_used(runs, cells, images, tmp_path):
    """Rounding moves the numbers a little; the weights are those of the run with float32."""
    run(images, tmp_path, cells, dict(fp16=True))
    exact, rounded = validations(runs[1])[-1], validations(tmp_path)[-1]
    assert rounded['affinity/auc'] != exact['affinity/auc']
    assert rounded['affinity/auc'] == pytest.approx(exact['affinity/auc'], abs=0.02)
    assert_same_run(tmp_path, runs[1])


def test_a_score_without_labels_keeps_the_best_and_can_end_the_run(images, tmp_path):
    cfg = tiny_config(images, tmp_path, **{'train_cfg.max_epochs': 6})
    cfg.visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
    cfg.val_dataloader = dict(
        batch_size=4,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
        dataset=dict(
            type='plrc_plugin.PhotographCells',
            photographs=dict(type='plrc_plugin.ImageFolder', data_root=str(images), pipeline=[]),
            images=8,
            size=64,
            cells=4,
        ),
    )
    cfg.val_cfg = dict(type='plrc_plugin.ProbeLoop')
    cfg.val_evaluator = [dict(type='plrc_plugin.DenseStructure')]
    cfg.train_cfg.val_interval = 1
    cfg.default_hooks.checkpoint.save_best = 'dse/score'
    cfg.default_hooks.checkpoint.rule = 'greater'
    cfg.custom_hooks = [
        *cfg.get('custom_hooks', []),
        dict(
            type='EarlyStoppingHook',
            monitor='dse/score',
            rule='greater',
            patience=1,
            min_delta=1e9,  # nothing is better by so much
        ),
    ]
    runner = train(cfg)
    scores = [
        json.loads(line)['dse/score']
        for file in tmp_path.glob('*/vis_data/scalars.json')
        for line in file.read_text().splitlines()
        if 'dse/score' in line
    ]
    assert len(scores) == runner.epoch == 2
    best = scores.index(max(scores)) + 1
    assert (tmp_path / f'best_dse_score_epoch_{best}.pth').exists()
