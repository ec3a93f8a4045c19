"""What a model's loss returns, logged as means."""

import re
from typing import Optional

from mmengine.hooks import Hook

from plrc_plugin.registry import HOOKS


@HOOKS.register_module()
class LogMeansHook(Hook):
    """Lets the log show whatever the model's ``loss`` returns as its mean over
    ``log_processor.window_size`` iterations.

    A term or an indicator of a model from outside is then logged like those of the package, and no
    list has to name it. What ``log_processor.mean_pattern`` matches is averaged as well; the rest,
    such as learning rates and schedules, is shown as it is. ``PretrainRunner`` adds this hook to
    every run.
    """

    def __init__(self):
        self._names: set[str] = set()

    def after_train_iter(
        self, runner, batch_idx: int, data_batch=None, outputs: Optional[dict] = None
    ) -> None:
        new = set(outputs or ()) - self._names  # a term may come later, as L_a does
        if new:
            self._names |= new
            pattern = runner.log_processor.mean_pattern.pattern
            names = '|'.join(map(re.escape, sorted(new)))
            # Whole names: a probe's number may end in one of them, and is no mean over a window.
            runner.log_processor.mean_pattern = re.compile(f'(?:{pattern})|^(train/)?({names})$')
