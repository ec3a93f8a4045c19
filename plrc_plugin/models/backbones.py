"""Trunks that need no compiled operators."""

from collections.abc import Sequence

import torchvision
from torch import Tensor, nn
from torchvision.models import resnet

from plrc_plugin.errors import SettingsError
from plrc_plugin.models.input_channels import check_channels, set_channels
from plrc_plugin.registry import MODELS

_ARCHITECTURES = {
    18: (resnet.BasicBlock, (2, 2, 2, 2)),
    34: (resnet.BasicBlock, (3, 4, 6, 3)),
    50: (resnet.Bottleneck, (3, 4, 6, 3)),
    101: (resnet.Bottleneck, (3, 4, 23, 3)),
    152: (resnet.Bottleneck, (3, 8, 36, 3)),
}


@MODELS.register_module()
class ResNet(nn.Module):
    """A ResNet trunk with torchvision's blocks and initialisation, under the parameter names that
    torchvision and mmdet share (``conv1``, ``layer1.0.conv1``, ...).

    Args:
        depth (int): 18, 34, 50, 101 or 152. Defaults to 50.
        base_channels (int): channels of the stem; the stages follow. Defaults to 64.
        strides (Sequence[int]): strides of the four stages. (1, 2, 2, 1) ends at stride 16.
            Defaults to (1, 2, 2, 2), stride 32.
        in_channels (int): channels of the images, 1 to 16. Defaults to 3.

    Raises:
        SettingsError: if there is no such architecture.
    """

    def __init__(
        self,
        depth: int = 50,
        base_channels: int = 64,
        strides: Sequence[int] = (1, 2, 2, 2),
        in_channels: int = 3,
    ):
        super().__init__()
        if depth not in list(_ARCHITECTURES):
            raise SettingsError(
                f'ResNet: depth must be one of {sorted(_ARCHITECTURES)}, got {depth!r}'
            )
        if not isinstance(base_channels, int) or base_channels < 1:
            raise SettingsError(
                f'ResNet: base_channels must be a positive integer, got {base_channels!r}'
            )
        if len(strides) != 4 or any(s not in (1, 2) for s in strides):
            raise SettingsError(f'ResNet: strides must be four of 1 or 2, got {strides!r}')
        check_channels('ResNet', in_channels)
        self.in_channels = in_channels
        block, counts = _ARCHITECTURES[depth]
        self.conv1 = nn.Conv2d(in_channels, base_channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(base_channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = base_channels
        for i, (count, stride) in enumerate(zip(counts, strides)):
            planes = base_channels << i
            blocks = []
            for b in range(count):
                blocks.append(_block(block, channels, planes, stride if b == 0 else 1))
                channels = planes * block.expansion
            setattr(self, f'layer{i + 1}', nn.Sequential(*blocks))
        self.out_channels = channels
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Turns images (B, 3, H, W) into a tuple with one map (B, C, h, w), that of the last
        stage."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for i in range(1, 5):
            x = getattr(self, f'layer{i}')(x)
        return (x,)


def _block(block: type, channels: int, planes: int, stride: int) -> nn.Module:
    downsample = None
    if stride != 1 or channels != planes * block.expansion:
        downsample = nn.Sequential(
            nn.Conv2d(channels, planes * block.expansion, 1, stride=stride, bias=False),
            nn.BatchNorm2d(planes * block.expansion),
        )
    return block(channels, planes, stride, downsample)


# The names of the parts before the pooling in torchvision's hierarchical models, in order.
_PARTS = (
    ('conv1', 'bn1', 'relu', 'maxpool', 'layer1', 'layer2', 'layer3', 'layer4'),  # ResNet, ResNeXt
    ('features', 'norm', 'permute'),  # Swin, whose maps are channels-last before the permute
    ('stem', 'trunk_output'),  # RegNet
    ('features',),  # ConvNeXt, EfficientNet, MobileNet, DenseNet, VGG
)


@MODELS.register_module()
class TorchvisionTrunk(nn.Module):
    """A hierarchical model of torchvision up to its last map. It keeps torchvision's parameter
    names.

    Args:
        name (str): name of the model, e.g. 'convnext_tiny', 'swin_t', 'regnet_y_400mf',
            'efficientnet_b0'.
        in_channels (int): of the images, 1 to 16. Defaults to 3.
        **kwargs: arguments of torchvision's builder except ``weights``, e.g.
            ``stochastic_depth_prob``.

    Raises:
        SettingsError: if there is no such model, or it has no map (a plain ViT).
    """

    def __init__(self, name: str, in_channels: int = 3, **kwargs):
        super().__init__()
        if name not in torchvision.models.list_models(module=torchvision.models):
            raise SettingsError(
                f'TorchvisionTrunk: torchvision {torchvision.__version__} has no '
                f'classification model {name!r}'
            )
        if 'weights' in kwargs:
            raise SettingsError(
                'TorchvisionTrunk: pre-training starts from random weights: leave '
                'weights out; to go on from a checkpoint, set pretrained=<file>'
            )
        model = torchvision.models.get_model(name, weights=None, **kwargs)
        parts = next((p for p in _PARTS if all(hasattr(model, part) for part in p)), None)
        if parts is None:
            raise SettingsError(
                f'TorchvisionTrunk: {name} has no last map that this class knows: choose a '
                'hierarchical model, e.g. a ResNet, ConvNeXt, Swin or RegNet'
            )
        check_channels('TorchvisionTrunk', in_channels)
        self.in_channels = in_channels
        if in_channels != 3:
            set_channels(model, in_channels)
        self._parts = parts
        for part in parts:
            self.add_module(part, getattr(model, part))

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Turns images (B, 3, H, W) into a tuple with one map (B, C, h, w), the last."""
        x = images
        for part in self._parts:
            x = getattr(self, part)(x)
        return (x,)
