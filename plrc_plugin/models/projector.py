"""MoCo v2's projector as 1x1 convolutions (Section 3.2, footnote 1)."""

from torch import nn


def conv_projector(in_channels: int, out_channels: int = 128) -> nn.Sequential:
    """Returns a projector from (B, C, h, w) to (B, D, h, w): 1x1 convolution C-C, ReLU, 1x1
    convolution C-D.

    At every position it is the two-layer perceptron of MoCo v2 (2048-2048-128 on ResNet-50).
    """
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(in_channels, out_channels, 1),
    )
