"""Options of how the trunks are executed. They save memory or compile, and do not change a loss."""

from collections.abc import Sequence
from contextlib import contextmanager, nullcontext
from functools import partial, wraps
from typing import Union

from mmengine.hooks import Hook
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from plrc_plugin.errors import SettingsError
from plrc_plugin.registry import HOOKS
from plrc_plugin.wrapped_models import bare_model


@HOOKS.register_module()
class TrunkOptionsHook(Hook):
    """Recomputes activations, or compiles trunks, as the config says.

    Args:
        recompute (Sequence[str]): modules of the model, e.g. ``['backbone.layer1',
            'backbone.layer2']``, whose activations are dropped after the forward and computed again
            for the backward. mmengine's ``activation_checkpointing`` would leave a whole backbone
            without gradient, because images need none, and would count each batch twice in the
            running statistics of batch normalisation. Defaults to none.
        compile (bool | dict): whether to compile the trunks, or arguments of ``torch.compile``.
            Names in checkpoints stay the same. Defaults to False.

    Raises:
        SettingsError: before the run, if the model has no such module.
    """

    def __init__(self, recompute: Sequence[str] = (), compile: Union[bool, dict] = False):
        if isinstance(recompute, str) or not all(isinstance(name, str) for name in recompute):
            raise SettingsError(
                f'TrunkOptionsHook: recompute must be a list of module names, got {recompute!r}'
            )
        if not isinstance(compile, (bool, dict)):
            raise SettingsError(
                'TrunkOptionsHook: compile must be a bool or the arguments of '
                f'torch.compile, got {compile!r}'
            )
        self.recompute = list(recompute)
        self.compile = compile

    def before_run(self, runner) -> None:
        modules = dict(bare_model(runner.model).named_modules())
        for name in self.recompute:
            if name not in modules:
                raise SettingsError(
                    f'TrunkOptionsHook: recompute names {name!r}, which the model '
                    'does not have; try backbone.layer1'
                )
            recompute_activations(modules[name])

    def before_train(self, runner) -> None:
        if self.compile is not False:
            model, options = bare_model(runner.model), {} if self.compile is True else self.compile
            for trunk in (model.backbone, getattr(model, 'momentum_backbone', None)):
                if trunk is not None:
                    trunk.compile(**options)


def recompute_activations(module: nn.Module) -> None:
    """Makes a module drop its activations after the forward."""
    forward = module.forward

    @wraps(forward)
    def forgetful(*args, **kwargs):
        return checkpoint(
            forward, *args, use_reentrant=False, context_fn=partial(_contexts, module), **kwargs
        )

    module.forward = forgetful


def _contexts(module: nn.Module):
    return nullcontext(), _running_statistics_held(module)


@contextmanager
def _running_statistics_held(module: nn.Module):
    """A context in which the second computation of a batch does not change running statistics
    again."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, state in zip(norms, kept):
            norm.momentum, norm.num_batches_tracked = state
