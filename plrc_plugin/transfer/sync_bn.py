"""SyncBN that becomes plain BN if there is nothing to synchronise."""

from functools import cache

from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from torch import nn

from plrc_plugin.registry import MODELS


@cache
def _say_once(reason: str) -> None:
    print_log(f'SyncBN falls back to BN: {reason}', 'current')


@MODELS.register_module()
class SyncBN:
    """SyncBN, or plain BN on one process or on the CPU; a ``norm_cfg`` type for mmcv's layers.

    mmengine reverts SyncBN only without a launcher; DDP on the CPU refuses to wrap it.
    """

    _abbr_ = 'bn'  # mmcv names the layers bn1, bn2, ... after it

    def __new__(cls, num_features: int, **kwargs) -> nn.Module:
        if get_device() == 'cpu':
            _say_once('this machine has no GPU in use')
        elif get_world_size() == 1:
            _say_once('there is one process')
        else:
            return nn.SyncBatchNorm(num_features, **kwargs)
        return nn.BatchNorm2d(num_features, **kwargs)
