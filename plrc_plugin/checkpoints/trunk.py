"""Reading checkpoints of any framework: only tensors are ever unpickled."""

import re
from typing import Optional

import torch
from torch import Tensor, nn

from plrc_plugin.checkpoints.safe_reading import load_tensors
from plrc_plugin.errors import SettingsError

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


def _state_dict(checkpoint: dict) -> dict[str, Tensor]:
    for key in ('state_dict', 'model'):
        if isinstance(checkpoint.get(key), dict):
            checkpoint = checkpoint[key]
            break
    return {
        re.sub(r'^((module|_orig_mod)\.)+', '', key): value
        for key, value in checkpoint.items()
        if isinstance(value, Tensor)
    }


def read_trunk(path: str, prefix: Optional[str] = None) -> tuple[dict[str, Tensor], str]:
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
        key[len(prefix) :]: value
        for key, value in state.items()
        if key.startswith(prefix) and not HEADS.match(key[len(prefix) :])
    }
    if not trunk:
        raise SettingsError(
            f'no trunk under {prefix!r} in {path}. Its first keys: {list(state)[:5]}. '
            f'Known prefixes: {PREFIXES}; give another one as prefix=...'
        )
    return trunk, prefix


# Every place of a detector or segmenter that continues the trunk.
PLACES = ('backbone', 'roi_head.shared_head')


@torch.no_grad()
def load_trunk(model: nn.Module, trunk: dict[str, Tensor]) -> list[str]:
    """Copy a trunk into ``model.backbone`` and, of a C4 detector, ``model.roi_head.shared_head``.

    Args:
        model: detector or segmenter.
        trunk: tensors as from :func:`plrc_plugin.transfer.read_trunk`.

    Returns:
        One line per place: how many tensors matched, and which ones of the place stay new.

    Raises:
        SettingsError: with the list, if a tensor of the trunk finds no place or another shape, or
            one of the model's trunk stays without.
    """
    modules = dict(model.named_modules())
    places = {name: modules[name].state_dict() for name in PLACES if name in modules}
    # BN step counters are of no use to these models, and old checkpoints lack them.
    trunk = {key: value for key, value in trunk.items() if not key.endswith('num_batches_tracked')}
    lines, problems, used = [], [], set()
    for name, state in places.items():
        wanted = {key for key in state if not key.endswith('num_batches_tracked')}
        matched = wanted & trunk.keys()
        new = sorted(wanted - matched)
        used |= matched
        problems += [
            f'{name}.{key}: {tuple(trunk[key].shape)} in the checkpoint, '
            f'{tuple(state[key].shape)} in the model'
            for key in sorted(matched)
            if trunk[key].shape != state[key].shape
        ]
        # Res5 of a C4 detector is the trunk's; only the norm after it is new.
        problems += [
            f'{name}.{key}: not in the checkpoint'
            for key in new
            if name == 'backbone' or not key.startswith('norm.')
        ]
        lines.append(
            f'{name}: {len(matched)} of {len(wanted)} tensors loaded'
            + (f', new: {", ".join(new)}' if new else '')
        )
    problems += [f'{key}: no place in {" or ".join(PLACES)}' for key in sorted(trunk.keys() - used)]
    if problems:
        raise SettingsError(
            'the checkpoint does not fit the model; depth and widths must be those '
            'of pre-training:\n  ' + '\n  '.join(problems)
        )
    for state in places.values():
        for key in state.keys() & trunk.keys():
            state[key].copy_(trunk[key])
    return lines
