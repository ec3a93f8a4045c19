"""Whole runs that keep something of their start: resumed bit for bit, and over two processes."""

import functools

import pytest
import torch
from mmengine.registry import RUNNERS
from runs import (
    assert_same_run,
    final,
    finish,
    make_images,
    records,
    run_processes,
    start,
    terms,
    tiny_config,
)

from plrc_plugin.errors import SettingsError
from plrc_plugin.models.backbones import ResNet

KEEP = {
    'model.backbone.type': 'NoisyResNet',
    'model.keep': dict(
        frozen_stages=0,
        norm_eval=True,
        projector_epochs=1,
        anchor=dict(distillation=0.5, averaging=0.01),
    ),
}
SETTINGS = {
    'sgd': KEEP,
    'adamw, layer by layer': {
        **KEEP,
        'optim_wrapper': dict(
            _delete_=True,
            optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
            constructor='plrc_plugin.LayerwiseRates',
            paramwise_cfg=dict(layer_decay=0.7, norm_decay_mult=0),
        ),
    },
}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp('data') / 'images')


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    torch.manual_seed(5)
    trunk = ResNet(18, base_channels=4).train()
    for _ in range(20):
        trunk(torch.randn(8, 3, 48, 48))  # statistics of its own
    path = tmp_path_factory.mktemp('weights') / 'trunk.pth'
    torch.save(trunk.state_dict(), path)
    return str(path)


def config(images, work_dir, weights, name='sgd', **more):
    options = {
        'default_hooks.checkpoint.by_epoch': False,
        'default_hooks.checkpoint.interval': 1,
        **SETTINGS[name],
        **more,
    }
    wrapper = options.pop('optim_wrapper', None)
    cfg = tiny_config(images, work_dir, **options)
    if wrapper:
        cfg.optim_wrapper = {k: v for k, v in wrapper.items() if k != '_delete_'}
    cfg.pretrained = weights
    return cfg


@pytest.fixture(scope='module')
def whole(images, weights, tmp_path_factory):
    @functools.cache
    def run(name):
        work_dir = tmp_path_factory.mktemp('whole')
        assert finish(start(config(images, work_dir, weights, name))) == ''
        return work_dir

    return run


def test_it_keeps_what_was_asked(whole, weights):
    begun, state = torch.load(weights, weights_only=True), final(whole('sgd'))['model']
    for key, value in begun.items():
        assert torch.equal(state[f'anchor_backbone.{key}'], value)
        still = key.startswith(('conv1.', 'bn1.')) or 'running_' in key or key.endswith('tracked')
        for encoder in ('backbone', 'momentum_backbone'):
            assert torch.equal(state[f'{encoder}.{key}'], value) == still, (encoder, key)
    anchored = ['l_anchor' in terms(lines[0]) for _, lines in sorted(records(whole('sgd')).items())]
    assert anchored == [False] * 5 + [True] * 5  # of two epochs, the first is the projector's


@pytest.mark.parametrize('name', SETTINGS)
@pytest.mark.parametrize('iteration', [2, 5, 7])
def test_resumed_bit_for_bit(name, iteration, whole, images, weights, tmp_path):
    died = dict(type='DieOnceHook', rank=0, iteration=iteration)
    for expected in ('killed', ''):
        cfg = config(images, tmp_path, weights, name, resume=expected == '')
        cfg.custom_hooks.append(died)
        assert finish(start(cfg)) == expected
    assert_same_run(tmp_path, whole(name))


def test_two_processes_as_one(images, weights, whole, tmp_path):
    """The first phase leaves parameters without gradient, which DistributedDataParallel is told."""
    options = {'model.negatives': 'ranks', 'model.backbone.type': 'plrc_plugin.ResNet'}
    cfg = config(images, tmp_path / 'one', weights, **options)
    assert finish(start(cfg)) == ''
    cfg = config(images, tmp_path / 'two', weights, **options, **{'train_dataloader.batch_size': 2})
    assert run_processes(cfg, 2) == ['', '']
    single, several = final(tmp_path / 'one')['model'], final(tmp_path / 'two')['model']
    del single['queue.bank']  # its keys come in the order of the processes
    for key, value in single.items():
        torch.testing.assert_close(several[key], value, msg=key, rtol=2e-4, atol=2e-4)
    other = final(tmp_path / 'two', 1)['model']
    assert all(torch.equal(other[key], value) for key, value in several.items())


def test_nothing_to_keep_from_scratch(images, tmp_path):
    cfg = config(images, tmp_path, None)
    with pytest.raises(SettingsError, match='model.keep keeps the model near its first weights'):
        RUNNERS.build(cfg).train()


def test_a_first_phase_needs_epochs(images, weights, tmp_path):
    cfg = config(images, tmp_path, weights, **{'model.warmup_epochs': 0})
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=4)
    with pytest.raises(SettingsError, match='projector_epochs=1 counts epochs'):
        RUNNERS.build(cfg).train()
