"""Finds models inside the wrappers of distributed training."""

from typing import cast

from mmengine.model import is_model_wrapper
from torch import nn


def bare_model(model: nn.Module) -> nn.Module:
    """Returns the model itself, which DistributedDataParallel or another wrapper may hold."""
    return cast(nn.Module, model.module) if is_model_wrapper(model) else model
