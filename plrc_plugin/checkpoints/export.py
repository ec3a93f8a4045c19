"""A trunk in the layouts of other frameworks."""

import pickle
import re

import torch
import torchvision
from torch import Tensor
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from plrc_plugin.errors import SettingsError

TARGETS = (
    'mmdet',
    'mmseg',
    'mmpretrain',
    'torchvision',
    'timm',
    'detectron2',
    'safetensors',
    'plrc',
)


def _listed(problems: list[str]) -> str:
    return '\n  '.join(['', *problems])


def _is_resnet(trunk: dict[str, Tensor]) -> bool:
    """Whether any name is a ResNet's; a part of one is to be listed as such."""
    return any(re.match(r'(conv1|bn1|layer[1-4])\.', key) for key in trunk)


def _check_names(trunk: dict[str, Tensor]) -> None:
    """Raises SettingsError for names that no module of a trunk has at its top."""
    strange = [
        key
        for key in trunk
        if re.match(r'\d|\.', key)
        or re.match(r'(\w*encoder\w*|\w*backbone|\w*projector|queue\w*)\.', key)
    ]
    if strange:
        raise SettingsError(
            'these are not the names of a trunk alone; give the place of the trunk, '
            'with its last dot, as prefix (--prefix backbone.):' + _listed(strange[:10])
        )


def _resnet_blocks(trunk: dict[str, Tensor]) -> tuple:
    """Block type and blocks per stage, read off the names."""
    names = {'.'.join(key.split('.')[:2]) for key in trunk if key.startswith('layer')}
    counts = [sum(name.startswith(f'layer{stage}.') for name in names) for stage in range(1, 5)]
    return Bottleneck if 'layer1.0.conv3.weight' in trunk else BasicBlock, counts


def complete_resnet(trunk: dict[str, Tensor]) -> dict[str, Tensor]:
    """The trunk with exactly the names of a torchvision ResNet of its depth, of any width.

    BN step counters, which old checkpoints lack, are filled with 0.

    Raises:
        SettingsError: with the list of missing and unknown names.
    """
    with torch.device('meta'):
        names = ResNet(*_resnet_blocks(trunk)).state_dict().keys() - {'fc.weight', 'fc.bias'}
    counters = {key: torch.tensor(0) for key in names if key.endswith('num_batches_tracked')}
    trunk = {**counters, **trunk}
    problems = [f'missing: {key}' for key in sorted(names - trunk.keys())]
    problems += [f'unknown: {key}' for key in sorted(trunk.keys() - names)]
    if problems:
        raise SettingsError(f'this is not the trunk of a ResNet:{_listed(problems)}')
    return {key: trunk[key].contiguous() for key in sorted(trunk)}


def _check_torchvision_shapes(trunk: dict[str, Tensor]) -> None:
    """Raises SettingsError, with the list, unless torchvision (and so timm) builds these shapes."""
    block, counts = _resnet_blocks(trunk)
    width = trunk['layer1.0.conv1.weight'].shape[0] if block is Bottleneck else 64
    with torch.device('meta'):
        model = torchvision.models.ResNet(block, counts, width_per_group=width)
    problems = [
        f'{key}: {tuple(trunk[key].shape)}, there {tuple(value.shape)}'
        for key, value in model.state_dict().items()
        if key in trunk and trunk[key].shape != value.shape
    ]
    if problems:
        raise SettingsError(
            'torchvision and timm build no ResNet of these shapes; mmdet, mmseg '
            f'and safetensors take them:{_listed(problems)}'
        )


def detectron2_name(key: str) -> str:
    """``layer1.0.downsample.1.bias`` -> ``res2.0.shortcut.norm.bias``; the stem under ``stem.``."""
    key = re.sub(r'downsample\.0', 'shortcut', key)
    key = re.sub(r'downsample\.1', 'shortcut.norm', key)
    key = re.sub(r'bn(\d)', r'conv\1.norm', key)
    key, in_stage = re.subn(r'^layer(\d)', lambda found: f'res{int(found[1]) + 1}', key)
    return key if in_stage else f'stem.{key}'


def export_trunk(trunk: dict[str, Tensor], path: str, target: str, source: str = '') -> list[str]:
    """Write ``trunk`` (see :func:`plrc_plugin.transfer.read_trunk`) for one of ``TARGETS``.

    Only ResNets go to torchvision, timm and detectron2; mm* and safetensors take any trunk.

    Args:
        source: where the trunk came from, kept as a note in the file.

    Returns:
        The names written.

    Raises:
        SettingsError: with the list, if names or shapes do not fit the target.
    """
    if target not in TARGETS:
        raise SettingsError(f'target must be one of {TARGETS}, got {target!r}')
    _check_names(trunk)
    if _is_resnet(trunk):
        trunk = complete_resnet(trunk)
    elif target in ('torchvision', 'timm', 'detectron2'):
        raise SettingsError(
            f'{target} takes only ResNets; this trunk starts with {list(trunk)[:5]}'
        )

    if target in ('torchvision', 'timm'):
        _check_torchvision_shapes(trunk)
        torch.save(trunk, path)
    elif target == 'detectron2':
        trunk = {detectron2_name(key): value.numpy() for key, value in trunk.items()}
        with open(path, 'wb') as file:
            pickle.dump(dict(model=trunk, __author__='plrc_plugin', matching_heuristics=True), file)
    elif target == 'safetensors':
        from safetensors.torch import save_file

        save_file(trunk, path, metadata=dict(format='pt', source=source))
    else:
        if target == 'plrc':
            trunk = {f'backbone.{key}': value for key, value in trunk.items()}
        torch.save(dict(meta=dict(source=source), state_dict=trunk), path)
    return list(trunk)
