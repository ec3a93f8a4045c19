"""Reading checkpoints of any framework: only tensors are ever unpickled."""
import os
import re
from contextlib import nullcontext
from pickle import UnpicklingError
from typing import Dict, Optional, Tuple

import torch
from torch import Tensor

from ..errors import SettingsError

# Where a trunk lives in a state dict, most specific first, without what DDP ('module.') and
# torch.compile ('_orig_mod.') add in front.
PREFIXES = {
    'backbone.': 'PLRC, mmdet, mmseg, mmpretrain',
    'encoder_q.enc.': "the authors' PLRC",
    'encoder_q.0.': 'DenseCL',
    'encoder_q.': 'MoCo',
    'encoder.': 'PixPro',
    '': 'bare trunk (torchvision, timm, mmdet, ...)',
}
# What may follow a trunk under the same prefix: classifiers and projectors of the formats above.
HEADS = re.compile(r'^(fc|fcs|fcs_2)\.')


class _Nothing:
    """Stands for every object of a checkpoint that is not a tensor; never runs what it is given."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __setstate__(self, state) -> None:
        pass


def _foreign_types(path: str) -> list:
    """Names of what a checkpoint would have built besides tensors (torch >= 2.6, zip format)."""
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (AttributeError, ValueError):
        return []


def load_tensors(path: str) -> dict:
    """Open a checkpoint (.pth, .pth.tar, .safetensors) on the CPU, building tensors alone.

    Whatever else it holds, such as mmengine's message hub or training options, is left out.

    Raises:
        SettingsError: if there is no such file, or it is no checkpoint, or torch refuses it.
    """
    if not os.path.isfile(path):
        raise SettingsError(f'no checkpoint at {path}')
    if str(path).endswith('.safetensors'):
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        try:
            return load_file(path)
        except SafetensorError as error:
            raise SettingsError(f'{path} is damaged or no checkpoint: {error}') from error
    try:
        foreign = [(_Nothing, name) for name in _foreign_types(path)]
        with torch.serialization.safe_globals(foreign) if foreign else nullcontext():
            checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except UnpicklingError as error:
        raise SettingsError(
            f'{path} holds more than tensors, and opening it could run any code, or is no '
            'checkpoint. Save its state dict alone where you trust it') from error
    except Exception as error:  # torch raises whatever the bytes lead it to
        raise SettingsError(f'{path} is damaged or no checkpoint: {error}') from error
    if not isinstance(checkpoint, dict):
        raise SettingsError(f'{path} holds a {type(checkpoint).__name__}, not a state dict')
    return checkpoint


def _state_dict(checkpoint: dict) -> Dict[str, Tensor]:
    for key in ('state_dict', 'model'):
        if isinstance(checkpoint.get(key), dict):
            checkpoint = checkpoint[key]
            break
    return {
        re.sub(r'^((module|_orig_mod)\.)+', '', key): value
        for key, value in checkpoint.items() if isinstance(value, Tensor)
    }


def read_trunk(path: str, prefix: Optional[str] = None) -> Tuple[Dict[str, Tensor], str]:
    """The trunk of a checkpoint: PLRC, MoCo, DenseCL, PixPro, OpenMMLab, torchvision, timm.

    Args:
        path: a ``.pth``, ``.pth.tar`` or ``.safetensors`` file.
        prefix: where the trunk lives, such as ``momentum_backbone.``; found by itself when None.

    Returns:
        The trunk's tensors under the names of torchvision and mmdet (``conv1.weight``,
        ``layer1.0.conv1.weight``, ...; other kinds of trunk keep their own), and the prefix.

    Raises:
        SettingsError: if there is nothing under ``prefix``, or no tensor at all.
    """
    state = _state_dict(load_tensors(path))
    if prefix is None:
        prefix = next((p for p in PREFIXES if any(key.startswith(p) for key in state)), '')
    trunk = {
        key[len(prefix):]: value
        for key, value in state.items()
        if key.startswith(prefix) and not HEADS.match(key[len(prefix):])
    }
    if not trunk:
        raise SettingsError(
            f'no trunk under {prefix!r} in {path}. Its first keys: {list(state)[:5]}. '
            f'Known prefixes: {PREFIXES}; give another one as prefix=...')
    return trunk, prefix
