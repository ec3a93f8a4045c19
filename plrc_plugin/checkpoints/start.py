"""Gives the two encoders of a pre-training model the weights that they start from."""

import ast
import re
from collections.abc import Sequence
from typing import Any, Optional, Union

from mmengine.logging import MessageHub, print_log
from torch import nn

from plrc_plugin.checkpoints.input_style import as_style
from plrc_plugin.checkpoints.misfit import is_counter
from plrc_plugin.checkpoints.trunk import TRUNK, fill_model, refuse_non_finite
from plrc_plugin.errors import SettingsError

SCRATCH = 'scratch'
# The settings pretrained_<name> beside pretrained, in the order of start_encoders' arguments.
FURTHER = ('parts', 'input', 'channels')


def is_encoder_pair(model: nn.Module) -> bool:
    """Whether a model is a pre-training model: its backbone has a momentum twin."""
    return hasattr(model, f'momentum_{TRUNK}')


def start_encoders(
    model: nn.Module,
    pretrained: Optional[str],
    parts: Union[str, Sequence[str], None] = None,
    stated: Union[str, dict, None] = None,
    channels: Optional[str] = None,
) -> None:
    """Fills a pre-training model from the setting ``pretrained`` and logs what it did.

    Args:
        model: a model with pairs of encoders.
        pretrained: a checkpoint; None or 'scratch' leaves the initial weights.
        parts: those of :func:`~plrc_plugin.checkpoints.trunk.fill_model`; None for the trunk alone.
        stated: what the weights expect of images, for files that do not tell: the name or the
            fields of an :class:`~plrc_plugin.checkpoints.input_style.InputStyle`.
        channels: that of :func:`~plrc_plugin.checkpoints.trunk.fill_model`.
    """
    if pretrained in (None, SCRATCH):
        if parts:
            raise SettingsError(
                f'pretrained_parts={parts} needs the checkpoint that has them: set pretrained'
            )
        if getattr(getattr(model, 'keep', None), 'needs_start', False):
            raise SettingsError(
                'model.keep keeps the model near its first weights, and there are none: set '
                'pretrained=<file>, or leave model.keep out'
            )
        print_log('pretrained: scratch, the encoders start from random weights', 'current')
    else:
        style = None if stated is None else as_style('pretrained_input', stated)
        lines = fill_model(model, pretrained, parts or (TRUNK,), style, channels)
        print_log('pretrained: ' + '\n  '.join(lines), 'current')
    model.started_from = pretrained or SCRATCH


def ensure_start(model: nn.Module) -> None:
    """Makes the first training pass of ``model`` read ``pretrained`` if no hook has done so.

    The hook ``LoadTrunk`` does it before the training, and ``PretrainRunner`` always has that hook.
    Under mmengine's own ``Runner`` with a config that lists other hooks, the setting would be
    ignored.
    """

    def start(module: nn.Module, *_) -> None:
        handle.remove()
        settings = MessageHub.get_current_instance()
        if not hasattr(module, 'started_from') and not settings.get_info('iter', 0):
            text = settings.get_info('cfg', '')
            pretrained = _setting(text, 'pretrained')
            if pretrained is not None:
                further = [_setting(text, f'pretrained_{name}') for name in FURTHER]
                start_encoders(module, pretrained, *further)

    handle = model.register_forward_pre_hook(start)


def _setting(config_text: str, name: str) -> Any:
    """A top-level setting of a config. mmengine gives models only the text of the config."""
    found = re.search(rf'^{name} = (.+(?:\n .*|\n\].*)*)', config_text, re.M)
    return ast.literal_eval(found[1]) if found else None


def check_whole(model: nn.Module, checkpoint: dict, path: Optional[str]) -> None:
    """Raises SettingsError unless ``load_from`` fills the whole model. mmengine would leave the
    rest, such as the momentum encoder, as it is."""
    state, wanted = checkpoint.get('state_dict', checkpoint), model.state_dict()
    filled = [
        key
        for key, value in wanted.items()
        if is_counter(key) or getattr(state.get(key), 'shape', None) == value.shape
    ]
    refuse_non_finite(path, {key: state[key] for key in filled if key in state})
    if len(filled) < len(wanted):
        missing = next(key for key in wanted if key not in set(filled))
        raise SettingsError(
            f'{path} has {len(filled)} of the {len(wanted)} tensors of the model, and not '
            f'{missing}: to start both encoders from its trunk, set pretrained={path} instead of '
            'load_from'
        )


def refuse_init_cfg(init_cfg: Any, backbone: Any) -> None:
    """Raises SettingsError for checkpoints in ``init_cfg``, because mmengine would load only the
    tensors that happen to fit. Addresses of model zoos are left to mmengine, which alone reads
    them."""
    for where, cfg in (
        ('model.init_cfg', init_cfg),
        ('model.backbone.init_cfg', backbone.get('init_cfg') if hasattr(backbone, 'get') else None),
    ):
        for one in cfg if isinstance(cfg, (list, tuple)) else [cfg]:
            path = one.get('checkpoint') if hasattr(one, 'get') else None
            if path is not None and '://' not in str(path):
                raise SettingsError(
                    f'{where} loads whatever happens to fit: set pretrained={path} instead, which '
                    'fills both encoders and refuses what does not fit'
                )
