"""A trunk in the layouts of other frameworks."""

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import torch
from torch import Tensor

from plrc_plugin.checkpoints import writers  # noqa: F401  registers the targets
from plrc_plugin.checkpoints.input_style import META_KEY, InputStyle
from plrc_plugin.checkpoints.resnet import complete_resnet, is_resnet, listed
from plrc_plugin.checkpoints.trunk import read_file
from plrc_plugin.errors import SettingsError
from plrc_plugin.registry import EXPORTS

# Names of the registered targets. This is a live view: it also shows targets that other modules
# register later.
TARGETS = EXPORTS.module_dict.keys()


def export_trunk(
    trunk: dict[str, Tensor],
    path: str,
    target: str,
    source: str = '',
    style: Optional[InputStyle] = None,
) -> list[str]:
    """Write ``trunk`` (see :func:`plrc_plugin.checkpoints.read_trunk`) for one of ``TARGETS``.

    Every target takes ResNets. Plain vision transformers of timm can be written for timm,
    torchvision, mmpretrain and mmseg. Other trunks of torchvision or timm can be written for their
    own library. The targets mmdet, plrc and safetensors take any trunk under its own names. A
    further target is one function in the form of :mod:`~plrc_plugin.checkpoints.writers`,
    registered in :data:`~plrc_plugin.registry.EXPORTS`.

    Args:
        trunk: tensors by name. A ResNet is completed with the BN step counters that it lacks.
        path: the file to write.
        target: one of ``TARGETS``.
        source: where the trunk came from, kept as a note in the file.
        style: what the trunk expects of images, kept where the target has a place for it.

    Returns:
        The names written.

    Raises:
        SettingsError: if there is no such target or folder, or if names or shapes do not fit the
            target; then the message lists them.
    """
    if target not in TARGETS:
        raise SettingsError(f'target must be one of {", ".join(TARGETS)}, got {target!r}')
    if not Path(path).parent.is_dir():
        raise SettingsError(f'{path} cannot be written: there is no folder {Path(path).parent}')
    _check_names(trunk)
    if is_resnet(trunk):
        trunk = complete_resnet(trunk)
    write = EXPORTS.module_dict[target]
    more = dict(style=style) if keeps_style(target) else {}
    return write(trunk, path, source, **more)


def keeps_style(target: str) -> bool:
    """Whether files of a target have a place for what a trunk expects of images."""
    return 'style' in inspect.signature(EXPORTS.module_dict[target]).parameters


def export_parts(path: str, source: str, parts: Sequence[str]) -> list[str]:
    """Writes the trunk of a checkpoint of this package together with further parts of its model, so
    that somebody else can continue the pre-training.

    Args:
        path: the file to write.
        source: the checkpoint.
        parts: names of modules, such as 'projector', 'momentum_backbone' or 'queue'; 'all' stands
            for every one.

    Returns:
        The names written, as ``pretrained_parts`` finds them.

    Raises:
        SettingsError: if the checkpoint has no such part.
    """
    file = read_file(source)
    known = list(dict.fromkeys(key.partition('.')[0] for key in file.state))
    wanted = known if list(parts) == ['all'] else ['backbone', *parts]
    lacking = [part for part in wanted if part not in known]
    if lacking or not Path(path).parent.is_dir():
        raise SettingsError(
            f'{source} has no part {lacking[0]!r}; it has {", ".join(known)}'
            if lacking
            else f'{path} cannot be written: there is no folder {Path(path).parent}'
        )
    state = {k: v for k, v in file.state.items() if k.partition('.')[0] in wanted}
    meta = file.content.get('meta')
    kept = {META_KEY: meta[META_KEY]} if isinstance(meta, dict) and META_KEY in meta else {}
    torch.save(dict(meta=dict(source=source, **kept), state_dict=state), path)
    return list(state)


def _check_names(trunk: dict[str, Tensor]) -> None:
    """Raises SettingsError if the names show that the tensors are more than a trunk."""
    strange = [
        key
        for key in trunk
        if re.match(r'\d|\.', key)
        or re.match(r'(\w*encoder\w*|\w*backbone|\w*projector|queue\w*)\.', key)
    ]
    if strange:
        raise SettingsError(
            'these are not the names of a trunk alone; give the place of the trunk, '
            'with its last dot, as prefix (--prefix backbone.):' + listed(strange[:10])
        )
