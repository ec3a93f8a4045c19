"""Fits position embeddings to another number of patches."""

from collections.abc import Mapping
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NAME = 'pos_embed'


def fit_positions(trunk: nn.Module, tensors: dict[str, Tensor]) -> list[str]:
    """Resamples the position embeddings among ``tensors``, in place, to the patches of a trunk.

    The embeddings are those of class and register tokens, then those of a square map of patches.
    The map is resampled bicubically with antialiasing, as timm does it.

    Args:
        trunk: a vision transformer of timm, mmpretrain or mmseg, or any other module.
        tensors: the weights of the file under the names of the trunk.

    Returns:
        One line that says what was done. No line if nothing had to be done, or if the embeddings
        cannot be resampled.
    """
    given, wanted = tensors.get(NAME), dict(trunk.named_parameters()).get(NAME)
    if not may_be_resampled(given, wanted):
        return []
    height, width = _patches(trunk, wanted)
    extra = wanted.shape[1] - height * width
    side = round((given.shape[1] - extra) ** 0.5)
    if extra < 0 or side * side != given.shape[1] - extra:
        return []
    tokens, patches = given[:, :extra], given[:, extra:]
    grid = patches.transpose(1, 2).unflatten(2, (side, side))
    grid = F.interpolate(grid, (height, width), mode='bicubic', antialias=True)
    tensors[NAME] = torch.cat([tokens, grid.flatten(2).transpose(1, 2)], 1)
    return [
        f'{NAME}: resampled from {side} x {side} patches to {height} x {width}, the size of images '
        'that the trunk is built for'
    ]


def may_be_resampled(given: Optional[Tensor], wanted: Optional[Tensor]) -> bool:
    """Whether both are embeddings (1, tokens, C) with the same C and different numbers of
    tokens."""
    if given is None or wanted is None or given.dim() != 3 or wanted.dim() != 3:
        return False
    return given.shape != wanted.shape and given.shape[::2] == wanted.shape[::2]


def fits(key: str, tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> bool:
    """Whether a tensor has the shape of its namesake in ``like``, or can be resampled to it."""
    given, wanted = tensors[key], like[key]
    return given.shape == wanted.shape or (key == NAME and may_be_resampled(given, wanted))


def _patches(trunk: nn.Module, wanted: Tensor) -> tuple[int, int]:
    embedding = getattr(trunk, 'patch_embed', None)
    for name in ('grid_size', 'init_out_size'):
        size = getattr(embedding, name, None)
        if size is not None:
            return tuple(size)
    side = int(wanted.shape[1] ** 0.5)
    return side, side
