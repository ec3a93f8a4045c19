"""Loads the encoder of a checkpoint for probes and pictures, whichever method trained it."""

import torch
from mmengine.config import Config
from torch import nn

from plrc_plugin.checkpoints.trunk import load_trunk, read_trunk
from plrc_plugin.checkpoints.work_dir import RANDOM
from plrc_plugin.errors import SettingsError
from plrc_plugin.registry import MODELS


def load_encoder(
    cfg: Config, checkpoint: str, momentum: bool = False, projector: bool = False
) -> nn.Module:
    """Returns the model of a pre-training config in evaluation mode. Its ``backbone`` has the trunk
    of a checkpoint, and its ``projector`` has the checkpoint's projector if that is asked for. The
    other parts stay untrained.

    Args:
        cfg: any pre-training config with the checkpoint's architecture; its method may be another.
        checkpoint: what :func:`read_trunk` reads, or 'random' for the weights that training with
            this config starts from.
        momentum: take the momentum encoder's weights.
        projector: load the projector too.

    Raises:
        SettingsError: if the config has no encoder, the checkpoint lacks one, or the architectures
            differ.
    """
    if 'backbone' not in cfg.get('model', {}):
        raise SettingsError(
            f'{cfg.filename} has no model.backbone: give the config of a pre-training run'
        )
    torch.manual_seed(cfg.get('randomness', {}).get('seed') or 0)
    model = MODELS.build(cfg.model).eval()
    if checkpoint == RANDOM:
        return model
    like = model.backbone.state_dict()
    trunk, _ = read_trunk(checkpoint, 'momentum_backbone.' if momentum else None, like)
    if not trunk.keys() & like.keys():
        raise SettingsError(
            f'{checkpoint} holds no encoder for {cfg.filename}: its tensors, such '
            f'as {next(iter(trunk))!r}, are not those of the backbone'
        )
    load_trunk(model, trunk)
    if projector:
        state, prefix = read_trunk(checkpoint, 'momentum_projector.' if momentum else 'projector.')
        try:
            model.projector.load_state_dict(state)
        except RuntimeError as error:
            raise SettingsError(
                f'{prefix} of {checkpoint} does not fit the config: {" ".join(str(error).split())}'
            ) from error
    return model
