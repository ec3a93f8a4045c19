"""The res5 head of R50-C4 detectors as MoCo fine-tunes it."""

from typing import Optional, Union

from mmengine.model import BaseModule
from torch import Tensor

from plrc_plugin.registry import MODELS


@MODELS.register_module()
class Res5ExtraNorm(BaseModule):
    """Stage res5 of a ResNet on RoI features, and one more norm after it (MoCo, appendix A.4).

    The trunk's ``layer4`` is learned here, under the same names, so that a checkpoint of the whole
    trunk fills it; the extra norm is new.

    Args:
        depth: depth of the ResNet.
        base_channels: width of the ResNet's first stage.
        stride: stride of the stage's first block.
        norm_cfg: norm of the blocks and of the extra layer.
    """

    def __init__(
        self,
        depth: int = 50,
        base_channels: int = 64,
        stride: int = 2,
        norm_cfg: Optional[dict] = None,
        init_cfg: Union[dict, list, None] = None,
    ) -> None:
        # These are imported here, so that pre-training runs without mmcv and mmdet.
        from mmcv.cnn import build_norm_layer
        from mmdet.models import ResNet
        from mmdet.models.layers import ResLayer

        super().__init__(
            init_cfg
            or [
                dict(type='Kaiming', layer='Conv2d'),
                dict(type='Constant', val=1, layer='_BatchNorm'),
            ]
        )
        norm_cfg = norm_cfg or dict(type='plrc_plugin.SyncBN')
        block, blocks = ResNet.arch_settings[depth]
        planes = base_channels * 8
        self.layer4 = ResLayer(
            block,
            planes // 2 * block.expansion,
            planes,
            blocks[3],
            stride=stride,
            norm_cfg=norm_cfg,
        )
        self.norm = build_norm_layer(norm_cfg, planes * block.expansion)[1]

    def forward(self, x: Tensor) -> Tensor:
        """Turns RoI features of res4 (R, C, 14, 14) into (R, 2C, 7, 7)."""
        return self.norm(self.layer4(x))
