"""Changes a number of the model during training."""

import math
from numbers import Real
from typing import Optional

from mmengine.hooks import Hook

from plrc_plugin.errors import SettingsError
from plrc_plugin.registry import HOOKS
from plrc_plugin.wrapped_models import bare_model

_CURVES = dict(linear=lambda x: x, cosine=lambda x: (1 - math.cos(math.pi * x)) / 2)


@HOOKS.register_module()
class ScheduleHook(Hook):
    """Moves a number of the model from ``start`` to ``end``, and logs it under its last name.

    The number is a function of the iteration, so that a resumed run has the same numbers. It is
    ``start`` before ``begin_epoch``, and ``end`` from ``end_epoch`` on.

    Args:
        attribute (str): path of the number in the model, e.g.
            ``'affinity_distillation.teacher_temperature'``, ``'momentum'`` or ``'alpha'``.
        start (float): first number.
        end (float): last number.
        begin_epoch (float): when it begins to move. Defaults to 0.
        end_epoch (float, optional): when it reaches ``end``. Defaults to the end of training.
        curve (str): 'linear' or 'cosine' (half a period). Defaults to 'linear'.

    Raises:
        SettingsError: at construction or before the run, if a setting cannot work.
    """

    def __init__(
        self,
        attribute: str,
        start: float,
        end: float,
        begin_epoch: float = 0,
        end_epoch: Optional[float] = None,
        curve: str = 'linear',
    ):
        for name, value in dict(start=start, end=end, begin_epoch=begin_epoch).items():
            if not isinstance(value, Real):
                raise SettingsError(f'ScheduleHook: {name} must be a number, got {value!r}')
        if begin_epoch < 0 or (end_epoch is not None and not begin_epoch < end_epoch):
            raise SettingsError(
                'ScheduleHook: epochs must be 0 <= begin_epoch < end_epoch, got '
                f'{begin_epoch!r} and {end_epoch!r}'
            )
        if curve not in list(_CURVES):
            raise SettingsError(
                f'ScheduleHook: curve must be one of {list(_CURVES)}, got {curve!r}'
            )
        self.attribute = attribute
        self.start, self.end = start, end
        self.begin_epoch, self.end_epoch = begin_epoch, end_epoch
        self.curve = _CURVES[curve]

    def before_train(self, runner) -> None:
        value = bare_model(runner.model)
        for name in self.attribute.split('.'):
            value = getattr(value, name, None)
        if not isinstance(value, Real):
            raise SettingsError(
                f'ScheduleHook: attribute={self.attribute!r} is not a number of '
                f'{type(bare_model(runner.model)).__name__}; try momentum'
            )

    def before_train_iter(self, runner, batch_idx: int, data_batch: Optional[dict] = None) -> None:
        owner, _, name = self.attribute.rpartition('.')
        length = len(runner.train_dataloader)  # loops that count iterations have no max_epochs
        value = self.value_at(runner.iter / length, runner.max_iters / length)
        setattr(bare_model(runner.model).get_submodule(owner), name, value)
        runner.message_hub.update_scalar(f'train/{name}', value)

    def value_at(self, epoch: float, max_epochs: float) -> float:
        """Returns the number after so many epochs, which may be a fraction."""
        last = max_epochs if self.end_epoch is None else self.end_epoch
        passed = (epoch - self.begin_epoch) / max(last - self.begin_epoch, 1e-9)
        return self.start + (self.end - self.start) * self.curve(min(max(passed, 0), 1))
