"""What a resumed run takes from its checkpoint, and what from its settings.

The state (weights, momentum buffers, queue, position) comes from the checkpoint. The settings
(learning rate, weight decay, schedules, length) come from the current config. If the settings equal
those of the checkpoint, nothing is recomputed, so that an unchanged run stays the same bit for bit.
If they differ, the schedules are stepped again from the start to the position of the run. From
there on they are exactly those of a run that had the current settings from its first iteration.
"""

import warnings
from contextlib import contextmanager

from mmengine.optim import OptimWrapperDict
from mmengine.optim.scheduler.param_scheduler import ReduceOnPlateauParamScheduler
from mmengine.runner import IterBasedTrainLoop
from torch import Tensor, nn

from plrc_plugin.errors import SettingsError

# Numbers that a scheduler counts while it runs; everything else in it is a setting.
_COUNTED = {
    'optimizer',
    'verbose',
    'last_step',
    '_global_step',
    '_last_value',
    'best',
    'num_bad_epochs',
    'cooldown_counter',
}
# Options of torch's optimisers that say how a step is computed. They differ between versions of
# torch.
_HOW = {
    'foreach',
    'maximize',
    'capturable',
    'differentiable',
    'fused',
    'decoupled_weight_decay',
    'params',
}


def wrappers_in(optim_wrapper) -> dict:
    """Returns ``{name: wrapper of one optimiser}``; the name is ``''`` if there is only one."""
    if isinstance(optim_wrapper, OptimWrapperDict):
        return dict(optim_wrapper.items())
    return {'': optim_wrapper}


def fresh_options(optim_wrapper) -> dict:
    """Returns ``{name: options of each group}``: the first values of the options that schedules
    will change."""
    return {
        name: [{k: v for k, v in group.items() if k != 'params'} for group in wrapper.param_groups]
        for name, wrapper in wrappers_in(optim_wrapper).items()
    }


def optimizer_settings(optim_wrapper) -> dict:
    """Returns ``{name: dict(type, groups)}``: the options of each parameter group, as numbers and
    text.

    Call it before schedulers change them. The result goes into the checkpoint.
    """
    return {
        name: dict(
            type=type(wrapper.optimizer).__name__,
            groups=[
                {key: _plain(value) for key, value in group.items() if key not in _HOW}
                for group in wrapper.optimizer.param_groups
            ],
        )
        for name, wrapper in wrappers_in(optim_wrapper).items()
    }


def check_optimizers(now: dict, checkpoint: dict) -> None:
    """Raises SettingsError if the checkpoint is from another optimiser, before any state is
    loaded."""
    for name, saved in _saved_states(checkpoint, now).items():
        key = '.'.join(filter(None, ('optim_wrapper', name, 'optimizer')))
        if saved is None:
            raise SettingsError(
                f'{key} is new: the checkpoint holds no state of it. Resume with the '
                'optim_wrapper that made it, or start from its weights in another --work-dir with '
                'load_from'
            )
        before = _recorded(checkpoint, name) or _settings_in(saved)
        was, is_now = set(before['groups'][0]), set(now[name]['groups'][0])
        other = before['type'] not in (None, now[name]['type'])
        if other or (was - is_now and is_now - was):
            maker = before['type'] or f'one with {", ".join(sorted(was))}'
            raise SettingsError(
                f'{key}.type={now[name]["type"]}, and the checkpoint was made with {maker}, whose '
                f'state means nothing to it. Resume with the optimiser that made it, or start '
                'from its weights in another --work-dir with load_from'
            )
        sizes = [len(group['params']) for group in saved['param_groups']]
        if len(sizes) != len(now[name]['groups']):
            raise SettingsError(
                f'{key}: the parameters form {len(now[name]["groups"])} groups, and {len(sizes)} '
                'in the checkpoint. Resume with the model and the optim_wrapper.paramwise_cfg '
                'that made it'
            )


def check_model(model: nn.Module, checkpoint: dict, path: str) -> None:
    """Raises SettingsError if the weights of the checkpoint are those of another model. mmengine
    would load only the tensors that happen to fit, and leave the rest random."""
    state, wanted = checkpoint.get('state_dict'), model.state_dict()
    if 'meta' not in checkpoint or state is None:
        raise SettingsError(
            f'resume from {path}: it holds weights and no position of a run. To start from them, '
            'leave --resume out and set pretrained or load_from'
        )
    parameters = dict(model.named_parameters())
    for name, value in wanted.items():
        if name not in state and name not in parameters:
            continue  # a buffer that an earlier version did not have
        was = tuple(state[name].shape) if name in state else 'missing'
        if was != tuple(value.shape):
            raise SettingsError(
                f'resume from {path}: {name} is {was} there and {tuple(value.shape)} in this '
                f'model. Resume with the settings of the model that made it, or start from its '
                'weights in another --work-dir with pretrained'
            )
    further = [n for n in state if n not in wanted and n.endswith(('.weight', '.bias'))]
    if further:
        raise SettingsError(
            f'resume from {path}: this model has no {further[0]} ({len(further)} such '
            'tensors are there). Resume with the settings of the model that made it, or start from '
            'its weights in another --work-dir with pretrained'
        )


def continue_with_settings(runner, checkpoint: dict, rebuild_schedules) -> None:
    """Brings the optimisers and schedules of ``runner`` to its position. The optimisers must
    already hold the state of ``checkpoint``.

    Args:
        runner: the runner, with its loop at the position from which it goes on.
        checkpoint: the checkpoint, whose ``param_schedulers`` mmengine must not have loaded.
        rebuild_schedules: makes new schedules from the settings; None if they were not given as
            settings.

    Raises:
        SettingsError: if schedules that follow a metric would have to be recomputed.
    """
    now = runner.optimizer_settings
    schedules = _by_name(runner.param_schedulers, now)
    saved = _by_name(checkpoint.get('param_schedulers'), now)
    changes = [change for name in now for change in _changed_options(name, now, checkpoint)]
    kinds = [change for name in now for change in _changed_schedules(schedules[name], saved[name])]
    moved = getattr(runner.train_loop, 'moved', False)
    if 'optimizer' not in checkpoint:
        moved = True  # its options are the first values, from which schedules go on
        runner.logger.warning(
            'The checkpoint holds no state of the optimiser (save_optimizer=False, or a best_ '
            'one): its momentum begins anew, and the schedules go on. The result cannot equal that '
            'of an uninterrupted run.'
        )
    followers = [
        schedule
        for group in schedules.values()
        for schedule in group
        if isinstance(schedule, ReduceOnPlateauParamScheduler)
    ]
    if not changes and not kinds and not moved:
        for name, group in schedules.items():
            for schedule, state in zip(group, saved[name]):
                schedule.load_state_dict(state)
        return
    if followers:
        _keep_followers(schedules, saved, changes + kinds, moved)
        return
    for name, wrapper in wrappers_in(runner.optim_wrapper).items():
        for group, fresh in zip(wrapper.param_groups, runner.fresh_options[name]):
            for key in [k for k in group if k.startswith('initial_') or k == 'momentum']:
                del group[key]
            group.update(fresh)
    runner.param_schedulers = rebuild_schedules()
    _step_again(runner)
    if changes or kinds:
        runner.logger.warning(
            'Settings differ from those of the checkpoint: '
            + '; '.join(dict.fromkeys(changes + kinds))
            + '. From here on the schedules are those of a run that had the current settings from '
            'its start; the result cannot equal that of an uninterrupted run.'
        )


def _step_again(runner) -> None:
    """Steps new schedules as mmengine's ``ParamSchedulerHook`` would have stepped them up to this
    position."""
    loop = runner.train_loop
    schedules = runner.param_schedulers or []
    groups = schedules.values() if isinstance(schedules, dict) else [schedules]
    per_epoch = len(loop.dataloader)
    epochs = 0 if isinstance(loop, IterBasedTrainLoop) else loop.epoch
    for group in groups:
        by_iteration = [s for s in group if not s.by_epoch]
        by_epoch = [s for s in group if s.by_epoch]
        with _silent(group):
            for _ in range(epochs):
                _step(by_iteration, per_epoch)
                _step(by_epoch, 1)
            _step(by_iteration, loop.iter - epochs * per_epoch)


def _step(schedules: list, times: int) -> None:
    for _ in range(times if schedules else 0):
        for schedule in schedules:
            schedule.step()


@contextmanager
def _silent(schedules: list):
    verbose = [schedule.verbose for schedule in schedules]
    for schedule in schedules:
        schedule.verbose = False
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # "step() before optimizer.step()"
        yield
    for schedule, value in zip(schedules, verbose):
        schedule.verbose = value


def _keep_followers(schedules: dict, saved: dict, changes: list, moved: bool) -> None:
    """Keeps the state of schedules that follow a metric; only their end may have changed."""
    if moved or any(not change.rpartition(': ')[2].startswith('end ') for change in changes):
        raise SettingsError(
            'param_scheduler: ReduceOnPlateau follows metrics of the past, which a checkpoint does '
            f'not hold, and the settings differ from its ({"; ".join(changes) or "batch size"}). '
            'Resume with the settings that made it, or start from its weights in another '
            '--work-dir with load_from'
        )
    for name, group in schedules.items():
        for schedule, state in zip(group, saved[name]):
            schedule.load_state_dict({k: v for k, v in state.items() if k != 'end'})


def _changed_options(name: str, now: dict, checkpoint: dict) -> list[str]:
    saved = _saved_states(checkpoint, now)[name]
    if saved is None:
        return []
    before = (_recorded(checkpoint, name) or _settings_in(saved))['groups']
    where = '.'.join(filter(None, ('optim_wrapper', name, 'optimizer')))
    return [
        f'{where}.{key}: {old[key]} -> {new[key]}'
        for old, new in zip(before, now[name]['groups'])
        for key in old
        if key in new and old[key] != new[key]
    ]


def _changed_schedules(schedules: list, saved: list) -> list[str]:
    changes = []
    for i, (schedule, state) in enumerate(zip(schedules, saved)):
        fresh = {
            key: value
            for key, value in schedule.state_dict().items()
            if key not in _COUNTED and not callable(value)
        }
        different = [
            f'{key} {state.get(key)} -> {fresh[key]}'
            for key in fresh
            if key not in state or _plain(state[key]) != _plain(fresh[key])
        ]
        if different and not set(fresh) <= set(state):
            different = ['another schedule']
        changes += [
            f'param_scheduler.{i} ({type(schedule).__name__}): {entry}' for entry in different
        ]
    if len(schedules) != len(saved):
        changes.append(f'param_scheduler: {len(saved)} schedules -> {len(schedules)}')
    return changes


def _saved_states(checkpoint: dict, names) -> dict:
    state = checkpoint.get('optimizer') or {}
    if 'param_groups' in state:
        state = {'': state}
    return {name: state.get(name) for name in names}


def _recorded(checkpoint: dict, name: str):
    return checkpoint['meta'].get('optimizers', {}).get(name)


def _settings_in(state: dict) -> dict:
    """Finds the options with which an optimiser began, for a checkpoint that has no record of
    them."""
    groups = []
    for group in state['param_groups']:
        scheduled = {key[len('initial_') :] for key in group if key.startswith('initial_')}
        options = {
            key: _plain(group.get(f'initial_{key}', value))
            for key, value in group.items()
            if key not in _HOW and not key.startswith('initial_')
        }
        if 'betas' in group:  # mmengine keeps the one that is scheduled here
            options.pop('momentum', None)
            if 'momentum' in scheduled:
                options['betas'] = _plain((group['initial_momentum'], group['betas'][1]))
        groups.append(options)
    return dict(type=None, groups=groups)


def _by_name(schedules, names) -> dict:
    if isinstance(schedules, dict):
        return {name: schedules.get(name) or [] for name in names}
    return {name: schedules or [] for name in names}


def _plain(value):
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)
