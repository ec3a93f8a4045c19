"""Checks the names and shapes of ResNet trunks, and gives them detectron2's names."""

import re

import torch
import torchvision
from torch import Tensor
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from plrc_plugin.errors import SettingsError


def is_resnet(trunk: dict[str, Tensor]) -> bool:
    """Whether any name is a ResNet's. An incomplete ResNet counts, so that its missing parts are
    listed later. ResNets of another stem or with further modules in their blocks, as timm and mmdet
    have them, do not count, and neither do EfficientNets, which have a ``bn1`` too."""
    variant = r'conv1\.\d|stem\.|layer1\.\d+\.(se|bn2|conv2)\.\w+\.|layer\d\.0\.downsample\.[2-9]'
    if any(re.match(variant, key) for key in trunk):
        return False
    return any(re.match(r'(conv1|layer[1-4])\.', key) for key in trunk)


def require_resnet(trunk: dict[str, Tensor], target: str) -> None:
    """Raises SettingsError, naming ``target``, if the trunk is not a ResNet."""
    if not is_resnet(trunk):
        raise SettingsError(
            f"{target} takes only ResNets with torchvision's stem; this trunk starts with "
            f'{list(trunk)[:5]}'
        )


def complete_resnet(trunk: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the trunk with exactly the names of a torchvision ResNet of its depth, of any width.

    BN step counters, which old checkpoints lack, are filled with 0.

    Raises:
        SettingsError: with the list of missing and unknown names.
    """
    with torch.device('meta'):
        names = ResNet(*_blocks(trunk)).state_dict().keys() - {'fc.weight', 'fc.bias'}
    counters = {key: torch.tensor(0) for key in names if key.endswith('num_batches_tracked')}
    trunk = {**counters, **trunk}
    problems = [f'missing: {key}' for key in sorted(names - trunk.keys())]
    problems += [f'unknown: {key}' for key in sorted(trunk.keys() - names)]
    if problems:
        raise SettingsError(f'this is not the trunk of a ResNet:{listed(problems)}')
    return {key: trunk[key].contiguous() for key in sorted(trunk)}


def check_torchvision_shapes(trunk: dict[str, Tensor]) -> None:
    """Raises SettingsError, with a list, unless torchvision and timm build ResNets of these
    shapes."""
    block, counts = _blocks(trunk)
    width, groups = 64, 1
    if block is Bottleneck:  # ResNeXt has groups here, and wide ResNets have more channels
        width = trunk['layer1.0.conv1.weight'].shape[0]
        groups = width // trunk['layer1.0.conv2.weight'].shape[1]
    with torch.device('meta'):
        model = torchvision.models.ResNet(
            block, counts, groups=groups, width_per_group=width // groups
        )
    problems = [
        f'{key}: {tuple(trunk[key].shape)} here, {tuple(value.shape)} there'
        for key, value in model.state_dict().items()
        if key in trunk and trunk[key].shape != value.shape
    ]
    if problems:
        raise SettingsError(
            'torchvision and timm build no ResNet of these shapes; mmdet, mmseg '
            f'and safetensors take them:{listed(problems)}'
        )


def detectron2_name(key: str) -> str:
    """``layer1.0.downsample.1.bias`` -> ``res2.0.shortcut.norm.bias``; the stem under ``stem.``."""
    key = re.sub(r'downsample\.0', 'shortcut', key)
    key = re.sub(r'downsample\.1', 'shortcut.norm', key)
    key = re.sub(r'bn(\d)', r'conv\1.norm', key)
    key, in_stage = re.subn(r'^layer(\d)', lambda found: f'res{int(found[1]) + 1}', key)
    return key if in_stage else f'stem.{key}'


def timm_resnet(trunk: dict[str, Tensor]) -> dict[str, Tensor]:
    """A ResNet with the three convolutions that OpenMMLab's ResNetV1c and V1d have in their stem,
    under the names of timm's; any other trunk as it is."""
    if not {'stem.6.weight', 'layer1.0.conv1.weight'} <= trunk.keys():
        return trunk
    return {
        re.sub(r'^stem\.', 'conv1.', re.sub(r'^stem\.7\.', 'bn1.', key)): value
        for key, value in trunk.items()
    }


def listed(problems: list[str]) -> str:
    """The problems, one to a line, to follow a message."""
    return '\n  '.join(['', *problems])


def _blocks(trunk: dict[str, Tensor]) -> tuple:
    """The block type and the number of blocks per stage, read from the names."""
    names = {'.'.join(key.split('.')[:2]) for key in trunk if key.startswith('layer')}
    counts = [sum(name.startswith(f'layer{stage}.') for name in names) for stage in range(1, 5)]
    return Bottleneck if 'layer1.0.conv3.weight' in trunk else BasicBlock, counts
