"""Logs the numbers that a model's loss returns as means."""

import re
from typing import Optional

from mmengine.hooks import Hook

from plrc_plugin.registry import HOOKS


@HOOKS.register_module()
class LogMeansHook(Hook):
    """Makes the log show each number that the model's ``loss`` returns as its mean over
    ``log_processor.window_size`` iterations.

    A term or an indicator of a model from outside is then logged like those of the package, and no
    list has to name it. Numbers that ``log_processor.mean_pattern`` matches are averaged as well;
    others, such as learning rates and schedules, are shown as they are. ``PretrainRunner`` adds
    this hook to every run.
    """

    def __init__(self):
        self._names: set[str] = set()

    def after_train_iter(
        self, runner, batch_idx: int, data_batch=None, outputs: Optional[dict] = None
    ) -> None:
        new = set(outputs or ()) - self._names  # a term may appear later, as L_a does
        if new:
            self._names |= new
            pattern = runner.log_processor.mean_pattern.pattern
            names = '|'.join(map(re.escape, sorted(new)))
            # The pattern matches whole names: a probe's number may end in one of them, and must not
            # be averaged over a window.
            runner.log_processor.mean_pattern = re.compile(f'(?:{pattern})|^(train/)?({names})$')
