"""Models inside the wrappers of distributed training."""

from typing import cast

from mmengine.model import is_model_wrapper
from torch import nn


def bare_model(model: nn.Module) -> nn.Module:
    """The model itself, of one that DistributedDataParallel or the like may wrap."""
    return cast(nn.Module, model.module) if is_model_wrapper(model) else model
