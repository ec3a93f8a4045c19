"""Notices early that all embeddings have become one."""

from mmengine.hooks import Hook

from plrc_plugin.errors import SettingsError, check_positive_integers, check_shares
from plrc_plugin.registry import HOOKS


@HOOKS.register_module()
class CollapseHook(Hook):
    """Warns, or stops, when the image embeddings of a batch no longer differ.

    ``std``, which the models log, is the standard deviation of the embeddings over the batch times
    sqrt(D). It is 1 if they spread evenly over the sphere, and 0 if they have collapsed. A fresh
    ResNet starts near 0.15.

    Args:
        min_std (float): mean of ``std`` over the window below which embeddings count as collapsed.
            Defaults to 0.02.
        window (int): number of iterations that are averaged. Defaults to 200.
        action (str): ``'warn'``, once per window, or ``'stop'``. Defaults to ``'warn'``.

    Raises:
        SettingsError: at construction, if a setting cannot work.
        RuntimeError: if they have collapsed, with ``action='stop'``.
    """

    def __init__(self, min_std: float = 0.02, window: int = 200, action: str = 'warn'):
        check_shares('CollapseHook', min_std=min_std)
        check_positive_integers('CollapseHook', window=window)
        if action not in ('warn', 'stop'):
            raise SettingsError(f"CollapseHook: action must be 'warn' or 'stop', got {action!r}")
        self.min_std = min_std
        self.window = window
        self.action = action

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if (runner.iter + 1) % self.window or 'std' not in (outputs or {}):
            return
        std = runner.message_hub.get_scalar('train/std').mean(self.window)
        if std >= self.min_std:
            return
        message = (
            f'the embeddings of different images have collapsed: std is {std:.4f}, mean over '
            f'the last {self.window} iterations, below CollapseHook.min_std={self.min_std} '
            f'(iteration {runner.iter + 1}). Lower optim_wrapper.optimizer.lr, or raise '
            'model.momentum or model.temperature; this run will learn nothing more.'
        )
        if self.action == 'stop':
            raise RuntimeError(message)
        runner.logger.warning(message)
