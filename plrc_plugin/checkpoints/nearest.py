"""Which trunk a checkpoint would fit, for the message where it does not fit the model's."""

import re
from collections.abc import Iterator, Mapping
from typing import Optional

import torch
import torchvision
from torch import Tensor, nn

_DEPTHS = {
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
    (True, (3, 4, 6, 3)): 50,
    (True, (3, 4, 23, 3)): 101,
    (True, (3, 8, 36, 3)): 152,
}


def nearest_trunk(tensors: Mapping[str, Tensor]) -> str:
    """One line: what the checkpoint holds, and the setting of the model that it would fit.

    Args:
        tensors: of a trunk without heads.
    """
    resnet = resnet_of(tensors)
    if resnet:
        depth, width = resnet
        return (
            f'The checkpoint holds a ResNet-{depth} of width {width}: '
            f'model.backbone.depth={depth} model.backbone.base_channels={width} would fit'
        )
    for trunk, name, model in _models(set(tensors)):
        state = {k: v for k, v in model.state_dict().items() if not _HEAD.match(k)}
        if state.keys() == tensors.keys() and all(
            state[key].shape == tensors[key].shape for key in tensors
        ):
            return f"model.backbone=dict(type='plrc_plugin.{trunk}', name='{name}') would fit"
    return (
        'Kind, depth and widths must be those of the checkpoint, whose tensors begin with '
        f'{", ".join(list(tensors)[:3])}'
    )


def resnet_of(tensors: Mapping[str, Tensor]) -> Optional[tuple[int, int]]:
    """Depth and width of the first stage of a plain ResNet, read off its names and shapes; None of
    anything else."""
    first = tensors.get('layer1.0.conv1.weight')
    if first is None or 'conv1.weight' not in tensors:
        return None
    counts = tuple(
        len({key.split('.')[1] for key in tensors if key.startswith(f'layer{i}.')})
        for i in range(1, 5)
    )
    width = len(tensors['conv1.weight'])
    depth = _DEPTHS.get(('layer1.0.conv3.weight' in tensors, counts))
    return (depth, width) if depth and len(first) == width else None


_HEAD = re.compile(r'(classifier|fc|head|heads)\.')

# Which of timm's models have names like these, by one name that all of a family have.
_TIMM_FAMILIES = (
    (r'conv_stem\.', ('efficientnet*', 'tf_efficientnet*', 'mobilenet*', 'mnasnet*', 'fbnet*')),
    (r'stem\.0\.', ('convnext*',)),
    (r'layers\.0\.blocks\.0\.attn\.', ('swin*',)),
    (r'blocks\.0\.(attn|mixer|ls1|norm1)\.', ('vit_*', 'deit*', 'beit*', 'eva*')),
    (r'layer1\.0\.', ('resnet*', 'resnext*', 'wide_resnet*', 'seresnet*')),
)


def _models(names: set[str]) -> Iterator[tuple[str, str, nn.Module]]:
    """Models without memory whose names may be those of a checkpoint: trunk, name, model."""
    roots = {name.partition('.')[0] for name in names}
    if roots & {'features', 'trunk_output', 'layer1'}:
        for name in torchvision.models.list_models(module=torchvision.models):
            with torch.device('meta'):
                yield 'TorchvisionTrunk', name, torchvision.models.get_model(name, weights=None)
    try:
        import timm
    except ImportError:  # an extra
        return
    for mark, patterns in _TIMM_FAMILIES:
        if any(re.match(mark, name) for name in names):
            for name in timm.list_models(list(patterns)):
                if not re.search(r'_(giant|gigantic|huge|enormous|so400m|xxl\w*)', name):
                    with torch.device('meta'):
                        yield 'TimmTrunk', name, timm.create_model(name, num_classes=0)
