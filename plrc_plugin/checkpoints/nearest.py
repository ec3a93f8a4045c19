"""Finds a trunk that a checkpoint would fit, for the message that it does not fit the model's."""

import re
import time
from collections.abc import Iterator, Mapping
from typing import Optional

import torch
import torchvision
from torch import Tensor, nn

from plrc_plugin.checkpoints.positions import fits
from plrc_plugin.checkpoints.vit_names import translations

_DEPTHS = {
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
    (True, (3, 4, 6, 3)): 50,
    (True, (3, 4, 23, 3)): 101,
    (True, (3, 8, 36, 3)): 152,
}


# Seconds of processor time that the search may take; an answer that comes later helps nobody.
PATIENCE = 20.0


def nearest_trunk(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """One line: what the checkpoint holds, and the setting of the model that it would fit.

    Args:
        tensors: of a trunk without heads.
        own: those of the model's trunk.
    """
    resnet = resnet_of(tensors)
    if resnet:
        depth, width = resnet
        held = f'The checkpoint holds a ResNet-{depth} of width {width}'
        if resnet_of(own) == resnet:
            return f'{held}, as the model is, but not all of it, or one of other blocks'
        if _FIRST in own:
            return (
                f'{held}: model.backbone.depth={depth} model.backbone.base_channels={width} '
                'would fit'
            )
        return f'{held}: {_fitting("ResNet", depth=depth, base_channels=width)}'
    end = time.process_time() + PATIENCE
    for kind in (tensors, *(found for _, found in translations(tensors))):
        kind = {key: value for key, value in kind.items() if not _NOT_OF_TRUNK.match(key)}
        for trunk, name, model in _models(kind):
            if time.process_time() > end:
                break
            state = {k: v for k, v in model.state_dict().items() if not _NOT_OF_TRUNK.match(k)}
            if state.keys() == kind.keys() and all(fits(key, kind, state) for key in kind):
                return _fitting(trunk, name=name)
    if any(re.match(_OF_HUGGING_FACE, key) for key in tensors):
        return (
            'The names are those of Hugging Face transformers, of which ResNet, ConvNeXt, ViT, '
            "DINOv2 and DINOv3 are read: take timm's file of the same model instead"
        )
    return (
        'Kind, depth and widths must be those of the checkpoint, whose tensors begin with '
        f'{", ".join(list(tensors)[:3])}'
    )


def _fitting(trunk: str, **settings) -> str:
    given = ', '.join(f'{name}={value!r}' for name, value in settings.items())
    return (
        f"model = dict(backbone=dict(_delete_=True, type='plrc_plugin.{trunk}', {given})) in the "
        'config would fit'
    )


_FIRST = 'layer1.0.conv1.weight'


def resnet_of(tensors: Mapping[str, Tensor]) -> Optional[tuple[int, int]]:
    """Depth and width of the first stage of a plain ResNet, read off its names and shapes; None of
    anything else."""
    first = tensors.get(_FIRST)
    if first is None or 'conv1.weight' not in tensors:
        return None
    counts = tuple(
        len({key.split('.')[1] for key in tensors if key.startswith(f'layer{i}.')})
        for i in range(1, 5)
    )
    width = len(tensors['conv1.weight'])
    depth = _DEPTHS.get(('layer1.0.conv3.weight' in tensors, counts))
    return (depth, width) if depth and len(first) == width else None


_NOT_OF_TRUNK = re.compile(r'(classifier|fc|fc_norm|head|heads)\.|mask_token$')
_OF_HUGGING_FACE = r'(\w+\.)?(embeddings|embedder)\.'

# A tensor name that all models of a family have, and the models of timm in that family.
_TIMM_FAMILIES = (
    (r'conv_stem\.', ('efficientnet*', 'tf_efficientnet*', 'mobilenet*', 'mnasnet*', 'fbnet*')),
    (r'stem\.0\.', ('convnext*',)),
    (r'layers\.0\.blocks\.0\.attn\.', ('swin*',)),
)


def _models(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str, nn.Module]]:
    """Yields (trunk type, name, model) of models whose tensor names may be those of a checkpoint.
    The models are on the meta device and take no memory."""
    roots = {name.partition('.')[0] for name in tensors}
    depth = _depth_of(tensors)
    if 'features' in roots or depth:
        for name in torchvision.models.list_models(module=torchvision.models):
            if _of_torchvision(name, depth):
                with torch.device('meta'):
                    yield 'TorchvisionTrunk', name, torchvision.models.get_model(name)
    elif 'trunk_output' in roots:  # torchvision computes their widths from tensors with data
        for name in torchvision.models.list_models(include='regnet*'):
            if not re.search(r'_(16|32|128)gf', name):
                yield 'TorchvisionTrunk', name, torchvision.models.get_model(name)
    try:
        import timm
    except ImportError:  # timm is an extra
        return
    patterns = [f'*resne*{depth}*'] if depth else _transformers(tensors)
    patterns += [
        pattern
        for mark, patterns in _TIMM_FAMILIES
        if any(re.match(mark, name) for name in tensors)
        for pattern in patterns
    ]
    for name in timm.list_models(patterns) if patterns else ():
        if not re.search(r'_(giant|gigantic|huge|enormous|so400m|xxl\w*)', name):
            with torch.device('meta'):
                yield 'TimmTrunk', name, timm.create_model(name, num_classes=0)


def _depth_of(tensors: Mapping[str, Tensor]) -> int:
    """50 of a ResNet-50 of any kind, counted from its blocks; 0 of what has no ``layer1``."""
    blocks = {tuple(key.split('.')[:2]) for key in tensors if re.match(r'layer[1-4]\.\d', key)}
    layers = 3 if 'layer1.0.conv3.weight' in tensors else 2
    return layers * len(blocks) + 2 if blocks else 0


def _of_torchvision(name: str, depth: int) -> bool:
    """Whether torchvision's model of this name is a ResNet of a depth, or has ``features``."""
    if depth:
        return re.fullmatch(rf'(wide_)?resne[xt]t?{depth}(_.+)?', name) is not None
    return re.match(r'(regnet|(wide_)?resne|vit|maxvit|goog|inception|mnas|shuffle)', name) is None


_SIZES = {192: 'tiny', 384: 'small', 768: 'base', 1024: 'large'}


def _transformers(tensors: Mapping[str, Tensor]) -> list[str]:
    """Patterns for timm's names of plain vision transformers of this width and patch size."""
    patches = tensors.get('patch_embed.proj.weight')
    if patches is None or patches.dim() != 4 or not any(k.startswith('blocks.0.') for k in tensors):
        return []
    size, side = _SIZES.get(len(patches)), patches.shape[-1]
    if size is None:
        return []
    third = 'pos_embed' not in tensors
    kinds = ('dinov3*', 'rope*') if third else ('224', '384', 'dinov2', 'reg4*', 'clip_224')
    return [f'vit_{size}_patch{side}_{kind}' for kind in kinds] + [f'*beit*_{size}_patch{side}_224']
