"""What a resumed run does when its settings are not those of the checkpoint."""

import logging
from itertools import count

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import HOOKS, OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.runner import Runner
from torch import nn

from plrc_plugin.engine import PretrainRunner
from plrc_plugin.errors import SettingsError

RECORDS: list = []
COUNT = count()


class Line(BaseModel):
    """The smallest model that trains."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Linear(2, 1)
        self.other = nn.Linear(2, 1)

    def forward(self, inputs, mode='loss'):
        return dict(loss=(self.weight(inputs) + self.other(inputs)).square().mean())


class TwoSteps(Line):
    """Steps two optimisers, as models with several do."""

    def train_step(self, data, optim_wrapper):
        losses = self(**self.data_preprocessor(data), mode='loss')
        total, log = self.parse_losses(losses)
        optim_wrapper['weight'].backward(total)
        for wrapper in optim_wrapper.values():
            wrapper.step()
            wrapper.zero_grad()
        return log


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(force=True)
class TwoOptimizers:
    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
        self.cfg = optim_wrapper_cfg

    def __call__(self, model):
        return OptimWrapperDict(
            weight=OptimWrapper(torch.optim.SGD(model.weight.parameters(), **self.cfg['weight'])),
            other=OptimWrapper(torch.optim.AdamW(model.other.parameters(), **self.cfg['other'])),
        )


@HOOKS.register_module(force=True)
class RecordOptions(Hook):
    """What the optimiser has in each iteration, and the weights after it."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        wrapper = runner.optim_wrapper
        wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
        options = [
            {k: v for k, v in group.items() if k in ('lr', 'momentum', 'betas', 'weight_decay')}
            for each in wrappers
            for group in each.optimizer.param_groups
        ]
        RECORDS.append((runner.iter, options))


SGD = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
ADAM = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.1, weight_decay=0.1))
CONFIG = dict(
    default_hooks=dict(
        logger=None,
        checkpoint=dict(type='plrc_plugin.AtomicCheckpointHook', interval=1, by_epoch=True),
    ),
    custom_hooks=[dict(type='RecordOptions')],
    randomness=dict(seed=0),
    visualizer=dict(type='Visualizer'),
    log_level='WARNING',
)


def run(
    work_dir,
    length=4,
    schedules=(),
    batch=4,
    wrapper=SGD,
    model=Line,
    loop=None,
    images=16,
    runner=PretrainRunner,
    **more,
):
    """Trains; the options of each iteration, and the warnings."""
    RECORDS.clear()
    torch.manual_seed(0)
    cfg = dict(
        **{**CONFIG, **more},
        model=model(),
        work_dir=str(work_dir),
        experiment_name=f'{work_dir}_{next(COUNT)}',  # mmengine names runs by the second
        train_cfg=loop or dict(type='plrc_plugin.ResumableTrainLoop', max_epochs=length),
        train_dataloader=dict(
            batch_size=batch,
            dataset=[dict(inputs=torch.full((2,), i / images)) for i in range(images)],
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='default_collate'),
        ),
        optim_wrapper=wrapper,
        param_scheduler=schedules if isinstance(schedules, dict) else list(schedules) or None,
    )
    warned: list = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warned.append(record.getMessage())
    built = cfg.pop('model')
    runner = runner(model=built, **cfg, cfg=Config(dict(overwrite=False)))
    runner.logger.addHandler(handler)
    runner.train()
    return dict(RECORDS), ' '.join(warned), runner


COSINE = dict(type='CosineAnnealingLR')
SCHEDULES = {
    'cosine': [COSINE],
    'cosine with T_max by hand': [dict(type='CosineAnnealingLR', T_max=2)],
    'cosine by iteration': [dict(type='CosineAnnealingLR', by_epoch=False)],
    'cosine converted to iterations': [
        dict(type='CosineAnnealingLR', convert_to_iter_based=True, eta_min=0.01)
    ],
    'warm-up and cosine': [
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=6),
        dict(type='CosineAnnealingLR', by_epoch=True, begin=1),
    ],
    'multi-step': [dict(type='MultiStepLR', milestones=[1, 3], gamma=0.5)],
    'step': [dict(type='StepLR', step_size=1, gamma=0.5)],
    'poly': [dict(type='PolyLR', power=0.9, eta_min=1e-3)],
    'exponential': [dict(type='ExponentialLR', gamma=0.9)],
    'constant': [dict(type='ConstantLR', factor=0.3)],
    'linear': [dict(type='LinearLR', start_factor=1.0, end_factor=0.1)],
    'restarts': [dict(type='CosineRestartLR', periods=[2, 2], restart_weights=[1, 0.5], eta_min=0)],
    'one cycle': [dict(type='OneCycleLR', eta_max=0.2, total_steps=40, by_epoch=False)],
    'momentum': [COSINE, dict(type='CosineAnnealingMomentum', eta_min=0.5)],
    'weight decay': [
        COSINE,
        dict(type='CosineAnnealingParamScheduler', param_name='weight_decay', eta_min=0.01),
    ],
}
PER_GROUP = dict(SGD, paramwise_cfg=dict(custom_keys={'other': dict(lr_mult=0.1)}))


@pytest.mark.parametrize('name', SCHEDULES)
@pytest.mark.parametrize('wrapper', [SGD, ADAM, PER_GROUP], ids=['sgd', 'adamw', 'groups'])
def test_schedules_follow_a_new_length(name, wrapper, tmp_path):
    """From where it goes on, every option is that of a run of the new length, to the bit."""
    wrapper = {**wrapper, 'optimizer': {'weight_decay': 0.1, **wrapper['optimizer']}}
    options = dict(schedules=SCHEDULES[name], wrapper=wrapper)
    whole, *_ = run(tmp_path / 'whole', 6, **options)
    run(tmp_path / 'resumed', 3, **options)
    resumed, *_ = run(tmp_path / 'resumed', 6, resume=True, **options)
    assert set(resumed) == set(range(12, 24))
    assert resumed == {i: whole[i] for i in resumed}


def test_a_shorter_length_is_followed_too(tmp_path):
    whole, *_ = run(tmp_path / 'whole', 4, [COSINE])
    run(tmp_path / 'a', 8, [COSINE], custom_hooks=[dict(type='RecordOptions'), StopAfter(2)])
    resumed, said, _ = run(tmp_path / 'a', 4, [COSINE], resume=True)
    assert resumed == {i: whole[i] for i in range(8, 16)}
    assert 'T_max 8 -> 4' in said


class StopAfter(Hook):
    def __init__(self, epochs):
        self.epochs = epochs

    def after_train_epoch(self, runner):
        runner.train_loop.stop_training = runner.epoch + 1 == self.epochs


@pytest.mark.parametrize('name', SCHEDULES)
def test_resumed_unchanged_nothing_is_said_and_nothing_differs(name, tmp_path):
    whole, _, made = run(tmp_path / 'whole', 4, SCHEDULES[name])
    hooks = [dict(type='RecordOptions'), StopAfter(2)]
    run(tmp_path / 'resumed', 4, SCHEDULES[name], custom_hooks=hooks)
    resumed, said, again = run(tmp_path / 'resumed', 4, SCHEDULES[name], resume=True)
    assert 'Settings differ' not in said
    assert resumed == {i: whole[i] for i in range(8, 16)}
    for key, value in made.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[key])


def test_iterations_as_length(tmp_path):
    def loop(length):
        return dict(type='IterBasedTrainLoop', max_iters=length)

    hooks = dict(
        logger=None,
        checkpoint=dict(type='plrc_plugin.AtomicCheckpointHook', interval=4, by_epoch=False),
    )
    schedules = [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=3),
        dict(type='CosineAnnealingLR', by_epoch=False, begin=3),
    ]
    options = dict(schedules=schedules, default_hooks=hooks)
    whole, *_ = run(tmp_path / 'whole', loop=loop(16), **options)
    run(tmp_path / 'a', loop=loop(8), **options)
    resumed, *_ = run(tmp_path / 'a', loop=loop(16), resume=True, **options)
    assert resumed == {i: whole[i] for i in range(8, 16)}
    resumed, said, _ = run(tmp_path / 'a', loop=loop(16), resume=True, **options)
    assert not resumed and 'nothing is left to train' in said and 'max_iters=16' in said


def test_another_batch_size_gets_the_schedule_of_its_iterations(tmp_path):
    schedules = [dict(type='CosineAnnealingLR', convert_to_iter_based=True)]
    whole, *_ = run(tmp_path / 'whole', 4, schedules, batch=2)
    run(tmp_path / 'a', 2, schedules)
    resumed, said, _ = run(tmp_path / 'a', 4, schedules, batch=2, resume=True)
    assert resumed == {i: whole[i] for i in range(16, 32)}
    assert '4 images per iteration' in said


@pytest.mark.parametrize(
    'before, after, named',
    [
        (dict(lr=0.1), dict(lr=0.02), 'optim_wrapper.optimizer.lr: 0.1 -> 0.02'),
        (dict(weight_decay=0.1), dict(weight_decay=0.2), 'weight_decay: 0.1 -> 0.2'),
        (dict(momentum=0.9), dict(momentum=0.5), 'momentum: 0.9 -> 0.5'),
    ],
)
@pytest.mark.parametrize('schedules', [[COSINE], []], ids=['cosine', 'none'])
def test_options_of_now_are_taken_and_said(before, after, named, schedules, tmp_path):
    def sgd(options):
        return dict(type='OptimWrapper', optimizer=dict(type='SGD', **{'lr': 0.1, **options}))

    run(tmp_path / 'a', 2, schedules, wrapper=sgd(before))
    whole, *_ = run(tmp_path / 'whole', 4, schedules, wrapper=sgd(after))
    resumed, said, _ = run(tmp_path / 'a', 4, schedules, wrapper=sgd(after), resume=True)
    assert named in said
    assert resumed == {i: whole[i] for i in range(8, 16)}


def test_schedules_may_be_exchanged_added_and_left_out(tmp_path):
    for name, before, after in [
        ('another', [COSINE], [dict(type='MultiStepLR', milestones=[1, 3])]),
        ('more', [COSINE], [dict(type='LinearLR', end=1), COSINE]),
        ('none', [COSINE], []),
        ('new', [], [COSINE]),
    ]:
        whole, *_ = run(tmp_path / name / 'whole', 4, after)
        run(tmp_path / name / 'a', 2, before)
        resumed, said, _ = run(tmp_path / name / 'a', 4, after, resume=True)
        assert resumed == {i: whole[i] for i in range(8, 16)}, name
        assert 'param_scheduler' in said


def test_checkpoints_without_a_record_of_the_options(tmp_path):
    """Those of earlier versions, and of mmengine's own hook."""
    whole, *_ = run(tmp_path / 'whole', 4, [COSINE])
    run(tmp_path / 'a', 2, [COSINE])
    path = tmp_path / 'a' / 'epoch_2.pth'
    checkpoint = torch.load(path, weights_only=False)
    del checkpoint['meta']['optimizers']
    torch.save(checkpoint, path)
    resumed, *_ = run(tmp_path / 'a', 4, [COSINE], resume=True)
    assert resumed == {i: whole[i] for i in range(8, 16)}
    with pytest.raises(SettingsError, match=r'optimizer.type=AdamW.*dampening.*load_from'):
        run(tmp_path / 'a', 4, [COSINE], wrapper=ADAM, resume=True, load_from=str(path))


@pytest.mark.parametrize(
    'wrapper, message',
    [
        (ADAM, r'optim_wrapper.optimizer.type=AdamW, and the checkpoint was made with SGD.*load_f'),
        (PER_GROUP, r'form 4 groups, and 1 in the checkpoint'),
    ],
)
def test_another_optimiser_is_refused_in_one_line(wrapper, message, tmp_path):
    run(tmp_path / 'a', 2)
    with pytest.raises(SettingsError, match=message) as error:
        run(tmp_path / 'a', 4, wrapper=wrapper, resume=True)
    assert '\n' not in str(error.value)


def test_adam_in_place_of_adamw_is_another_optimiser(tmp_path):
    run(tmp_path / 'a', 2, wrapper=ADAM)
    adam = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=0.1, weight_decay=0.1))
    with pytest.raises(SettingsError, match='type=Adam, and the checkpoint was made with AdamW'):
        run(tmp_path / 'a', 4, wrapper=adam, resume=True)


@pytest.mark.parametrize('length', [2, 1])
def test_nothing_left_to_train_is_said(length, tmp_path):
    run(tmp_path / 'a', 2, [COSINE])
    before = (tmp_path / 'a' / 'epoch_2.pth').read_bytes()
    resumed, said, _ = run(tmp_path / 'a', length, [COSINE], resume=True)
    assert not resumed
    assert 'nothing is left to train' in said and f'train_cfg.max_epochs={length}' in said
    assert (tmp_path / 'a' / 'epoch_2.pth').read_bytes() == before


def test_several_optimisers_are_saved_resumed_and_followed(tmp_path):
    wrapper = dict(
        constructor='TwoOptimizers', weight=dict(lr=0.1, momentum=0.9), other=dict(lr=0.01)
    )
    schedules = dict(weight=[COSINE], other=[dict(type='LinearLR', start_factor=0.1, end=2)])
    options = dict(schedules=schedules, wrapper=wrapper, model=TwoSteps)
    whole, _, made = run(tmp_path / 'whole', 4, **options)
    run(tmp_path / 'a', 4, **options, custom_hooks=[dict(type='RecordOptions'), StopAfter(2)])
    resumed, said, again = run(tmp_path / 'a', 4, resume=True, **options)
    assert 'Settings differ' not in said and resumed == {i: whole[i] for i in range(8, 16)}
    for key, value in made.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[key])
    whole, *_ = run(tmp_path / 'longer', 6, **options)
    resumed, *_ = run(tmp_path / 'a', 6, resume=True, **options)
    assert resumed == {i: whole[i] for i in range(16, 24)}


PLATEAU = dict(type='ReduceOnPlateauLR', monitor='loss', rule='less', patience=1)


def test_a_schedule_that_follows_a_metric_keeps_what_it_has_seen(tmp_path):
    run(tmp_path / 'a', 2, [PLATEAU])
    path = tmp_path / 'a' / 'epoch_2.pth'
    checkpoint = torch.load(path, weights_only=False)
    checkpoint['param_schedulers'][0].update(best=0.125, num_bad_epochs=1)
    torch.save(checkpoint, path)
    _, _, made = run(tmp_path / 'a', 4, [PLATEAU], resume=True)
    schedule = made.param_schedulers[0]
    assert (schedule.best, schedule.num_bad_epochs, schedule.end) == (0.125, 1, 4)
    with pytest.raises(SettingsError, match='ReduceOnPlateau follows metrics of the past.*load_f'):
        run(tmp_path / 'a', 6, [PLATEAU], wrapper=_sgd(lr=0.01), resume=True)
    run(tmp_path / 'b', 2, [PLATEAU, COSINE])
    with pytest.raises(SettingsError, match='ReduceOnPlateau.*T_max 2 -> 4'):
        run(tmp_path / 'b', 4, [PLATEAU, COSINE], resume=True)


def _sgd(**options):
    return dict(type='OptimWrapper', optimizer=dict(type='SGD', momentum=0.9, **options))


def test_the_hook_guards_runs_of_mmengines_own_runner(tmp_path):
    run(tmp_path / 'a', 1, runner=Runner)
    before = (tmp_path / 'a' / 'epoch_1.pth').read_bytes()
    with pytest.raises(SettingsError, match='holds 1 checkpoints.*--overwrite'):
        run(tmp_path / 'a', 1, runner=Runner)
    assert (tmp_path / 'a' / 'epoch_1.pth').read_bytes() == before
    resumed, *_ = run(tmp_path / 'a', 2, runner=Runner, resume=True)
    assert set(resumed) == set(range(4, 8))


UNSAVED = dict(
    logger=None,
    checkpoint=dict(type='plrc_plugin.AtomicCheckpointHook', interval=1, save_optimizer=False),
)


def test_without_the_state_of_the_optimiser_schedules_go_on_and_it_is_said(tmp_path):
    whole, *_ = run(tmp_path / 'whole', 4, [COSINE])
    hooks = [dict(type='RecordOptions'), StopAfter(2)]
    run(tmp_path / 'a', 4, [COSINE], default_hooks=UNSAVED, custom_hooks=hooks)
    resumed, said, _ = run(tmp_path / 'a', 4, [COSINE], resume=True)
    assert resumed == {i: whole[i] for i in range(8, 16)}
    assert 'holds no state of the optimiser' in said


class Wide(Line):
    def __init__(self):
        super().__init__()
        self.other = nn.Linear(2, 3)


class More(Line):
    def __init__(self):
        super().__init__()
        self.third = nn.Linear(2, 1)


@pytest.mark.parametrize(
    'before, after, message',
    [
        (Line, Wide, r'other.weight is \(1, 2\) there and \(3, 2\) in this model'),
        (Line, More, r'third.weight is missing there'),
        (More, Line, r'has no third.weight \(2 such'),
    ],
)
def test_another_model_is_refused(before, after, message, tmp_path):
    """mmengine would load what happens to fit."""
    run(tmp_path / 'a', 1, model=before)
    with pytest.raises(SettingsError, match=message + '.*another --work-dir') as error:
        run(tmp_path / 'a', 2, model=after, resume=True)
    assert '\n' not in str(error.value)


def test_weights_alone_are_nothing_to_resume_from(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=Line().state_dict()), path)
    with pytest.raises(SettingsError, match='no position of a run.*leave --resume out'):
        hooks = dict(logger=None, checkpoint=dict(type='CheckpointHook'))
        run(tmp_path / 'a', 2, default_hooks=hooks, resume=True, load_from=str(path))


def test_resuming_from_an_earlier_checkpoint_is_done_and_said(tmp_path):
    run(tmp_path / 'a', 2)
    for name, says in [('epoch_1.pth', True), ('epoch_2.pth', False)]:
        resumed, said, _ = run(tmp_path / 'a', 2, resume=True, load_from=str(tmp_path / 'a' / name))
        assert bool(resumed) == says
        assert ('and not from' in said and 'epoch_2.pth' in said) == says


def test_checkpoints_of_another_name_are_resumed_though_the_newest_is_damaged(tmp_path):
    hooks = dict(UNSAVED, checkpoint=dict(UNSAVED['checkpoint'], filename_tmpl='at-{}.pt'))
    run(tmp_path / 'a', 2, default_hooks=hooks)
    (tmp_path / 'a' / 'at-2.pt').write_bytes(b'damaged')
    resumed, *_ = run(tmp_path / 'a', 2, default_hooks=hooks, resume=True)
    assert set(resumed) == set(range(4, 8))


@pytest.mark.parametrize('sampler', [dict(type='DistSamplerSeedHook'), None])
def test_the_epoch_reaches_the_sampler_without_mmengines_hook_too(sampler, tmp_path):
    seen = []

    class Epochs(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            seen.append(runner.train_dataloader.sampler.epoch)

    hooks = dict(CONFIG['default_hooks'], sampler_seed=sampler)
    run(tmp_path / 'a', 2, default_hooks=hooks)
    run(tmp_path / 'a', 4, default_hooks=hooks, custom_hooks=[Epochs()], resume=True)
    assert seen == [2] * 4 + [3] * 4
