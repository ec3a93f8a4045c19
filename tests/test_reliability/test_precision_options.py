"""Options of precision and memory, each by config: the same losses, to the stated tolerance."""

import os

import pytest
import torch
from runs import make_images, records, terms, tiny_config, train

MIXED = {'optim_wrapper.type': 'plrc_plugin.MixedPrecisionOptimWrapper'}
EXACT = dict(rtol=0, atol=0)
# Relative difference of the first iteration's losses; docs/reliability.md repeats the figures.
OPTIONS = {
    'bfloat16': ({**MIXED, 'optim_wrapper.dtype': 'bfloat16'}, dict(rtol=3e-2, atol=3e-3)),
    # By default the scale starts so high that it may overflow and skip the first step.
    'float16': (
        {**MIXED, 'optim_wrapper.dtype': 'float16', 'optim_wrapper.loss_scale': 1024.0},
        dict(rtol=4e-3, atol=4e-4),
    ),
    'channels_last': (
        {'model.data_preprocessor': dict(type='plrc_plugin.ViewsPreprocessor', channels_last=True)},
        dict(rtol=1e-5, atol=1e-6),
    ),
    'recompute': (dict(hook=dict(recompute=['backbone'])), EXACT),
    'recompute_stages': (dict(hook=dict(recompute=['backbone.layer1', 'backbone.layer3'])), EXACT),
    'compile': (dict(hook=dict(compile=dict(backend='eager'))), dict(rtol=1e-5, atol=1e-6)),
    'inductor': (dict(hook=dict(compile=True)), dict(rtol=1e-4, atol=1e-5)),
}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp('data') / 'images', count=8)


def run(images, work_dir, hook=None, **options):
    # With 4 channels torch 2.10's channels-last convolutions corrupt the memory of CPUs.
    cfg = tiny_config(
        images,
        work_dir,
        **{
            'train_cfg.max_epochs': 1,
            'model.warmup_epochs': 0,
            'model.momentum': 0.5,
            'model.backbone.base_channels': 8,
            **options,
        },
    )
    cfg.experiment_name = str(work_dir)
    if hook is not None:
        cfg.custom_hooks.append(dict(type='plrc_plugin.TrunkOptionsHook', **hook))
    runner = train(cfg)
    return runner, [terms(lines[-1]) for lines in records(work_dir).values()]


def lag(state):
    """How far the momentum encoder is behind."""
    names = ('backbone.conv1.weight', 'momentum_backbone.conv1.weight')
    return float((state[names[0]] - state[names[1]]).norm())


@pytest.fixture(scope='module')
def plain(images, tmp_path_factory):
    return run(images, tmp_path_factory.mktemp('plain'))


@pytest.mark.stack
@pytest.mark.parametrize('name', OPTIONS)
def test_option_gives_the_same_losses(name, images, plain, tmp_path):
    if name == 'inductor' and 'PLRC_FAULTS' not in os.environ:
        pytest.skip('compiles for a minute: make test-faults runs it')
    if name == 'float16' and not (hasattr(torch.amp, 'GradScaler') or torch.cuda.is_available()):
        pytest.skip('before torch 2.3 no float16 losses are scaled on the CPU')
    options, tolerance = OPTIONS[name]
    runner, losses = run(images, tmp_path, **options)
    expected_runner, expected = plain
    for term in ('loss', 'l_m', 'l_c', 'l_a'):
        torch.testing.assert_close(losses[0][term], expected[0][term], msg=f'{term}', **tolerance)
    assert losses[1]['loss'] == pytest.approx(expected[1]['loss'], rel=0.1)  # after a step
    state, expected = runner.model.state_dict(), expected_runner.model.state_dict()
    assert list(state) == list(expected)
    # Steps were noticed: torch 2.1 calls no hook of an optimiser once something is compiled.
    assert lag(state) == pytest.approx(lag(expected), rel=0.2)
    assert {v.dtype for v in state.values()} == {torch.float32, torch.int64}
    if tolerance == EXACT:
        assert losses == plain[1]
        assert all(torch.equal(state[key], expected[key]) for key in state)
    if name == 'channels_last':
        batch = next(iter(runner.train_dataloader))
        image = runner.model.data_preprocessor(batch)['query']['image']
        assert image.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('counts', [1, 2])
def test_optimisers_that_write_to_data_move_average_and_queue(counts, images, tmp_path):
    states = []
    for kind in ('SGD', 'DataSGD'):
        runner, _ = run(
            images,
            tmp_path / kind,
            **{
                'optim_wrapper.optimizer': dict(_delete_=True, type=kind, lr=0.03),
                'optim_wrapper.accumulative_counts': counts,
                'train_cfg.max_epochs': 2,
            },
        )
        assert (tmp_path / kind / 'epoch_2.pth').exists()
        states.append(runner.model.state_dict())
    assert int(states[0]['queue.bank_ptr']) == 16
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_half_precision_reaches_the_trunk(images, tmp_path):
    from plrc_plugin.models.backbones import ResNet

    seen = set()

    def note(module, inputs, output):
        seen.add(output[0].dtype)

    handle = torch.nn.modules.module.register_module_forward_hook(
        lambda m, i, o: note(m, i, o) if isinstance(m, ResNet) else None
    )
    try:
        run(images, tmp_path, **OPTIONS['bfloat16'][0])
    finally:
        handle.remove()
    assert torch.bfloat16 in seen
