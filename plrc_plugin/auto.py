"""The word ``'auto'`` in a config: where it may stand, and an error where nobody resolves it."""

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, NamedTuple, Optional

from mmengine.runner import Runner

from plrc_plugin.errors import SettingsError

AUTO = 'auto'

# Settings that may be 'auto', in the order in which the table of a run shows them. Those of
# pipeline steps go by the class of the step, schedules by their entry.
FIXED = (
    'train_dataloader.batch_size',
    'train_dataloader.num_workers',
    'train_dataloader.persistent_workers',
    'train_dataloader.pin_memory',
    'optim_wrapper.type',
    'train_cfg.max_epochs',
    'model.queue_size',
    'model.momentum',
    'model.warmup_epochs',
    'model.keep',
    'optim_wrapper.optimizer.lr',
    'default_hooks.checkpoint.interval',
    'default_hooks.logger.interval',
    'log_processor.window_size',
)
OF_STEPS = {'TwoViews': ('size',), 'SampleRegionPoints': ('resolution', 'points_per_region')}


class Place(NamedTuple):
    """Where a setting stands: ``holder[key]``, which ``--cfg-options`` calls ``path``; ``name`` is
    the same for all places of a setting."""

    name: str
    path: str
    holder: Any
    key: str

    @property
    def value(self) -> Any:
        return self.holder[self.key]


def places(cfg: Any) -> list[Place]:
    """Every place of a config at which ``'auto'`` may stand, whatever stands there."""
    found = list(_of_pipelines(_at(cfg, 'train_dataloader.dataset'), 'train_dataloader.dataset'))
    for path in FIXED:
        holder, key = _at(cfg, path.rpartition('.')[0]), path.rpartition('.')[2]
        if isinstance(holder, dict) and key in holder:
            found.append(Place(path, path, holder, key))
    schedules = cfg.get('param_scheduler')
    for i, entry in enumerate(schedules if isinstance(schedules, (list, tuple)) else []):
        if isinstance(entry, dict) and 'end' in entry:
            found.append(Place('param_scheduler.end', f'param_scheduler.{i}.end', entry, 'end'))
    return found


def unresolved(cfg: Any) -> list[Place]:
    """The places at which ``'auto'`` stands."""
    return [place for place in places(cfg) if place.value == AUTO]


def refuse_unresolved(model_settings: dict) -> None:
    """Raises SettingsError if a model is built with ``'auto'``, or within a runner of mmengine
    whose config has it: nothing but ``PretrainRunner`` resolves it. Called by models, as a runner
    builds its model first."""
    paths = [f'model.{name}' for name, value in model_settings.items() if value == AUTO]
    frame: Optional[FrameType] = sys._getframe()
    while not paths and frame is not None:
        owner = frame.f_locals.get('self')
        if isinstance(owner, Runner):
            paths = [place.path for place in unresolved(owner.cfg)]
            break
        frame = frame.f_back
    if paths:
        raise SettingsError(
            f"{paths[0]}='auto' is computed by runner_type='plrc_plugin.PretrainRunner', but "
            'another runner is at work: set that runner, or a value; *_resolved.py in the work '
            'dir of a run holds the values of that run'
        )


def _at(cfg: Any, path: str) -> Any:
    for part in path.split('.'):
        cfg = cfg.get(part) if isinstance(cfg, dict) or hasattr(cfg, 'get') else None
    return cfg


def _of_pipelines(dataset: Any, path: str) -> Iterator[Place]:
    if isinstance(dataset, (list, tuple)):
        for i, entry in enumerate(dataset):
            yield from _of_pipelines(entry, f'{path}.{i}')
    if not isinstance(dataset, dict):
        return
    for name in ('dataset', 'datasets'):
        yield from _of_pipelines(dataset.get(name), f'{path}.{name}')
    for i, step in enumerate(dataset.get('pipeline') or ()):
        kind = step.get('type') if isinstance(step, dict) else None
        kind = str(getattr(kind, '__name__', kind)).rpartition('.')[2]
        for key in OF_STEPS.get(kind, ()):
            if key in step:
                yield Place(f'{kind}.{key}', f'{path}.pipeline.{i}.{key}', step, key)
