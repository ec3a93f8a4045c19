"""Averages the losses of images to one number, on one process and on many."""

from functools import wraps
from numbers import Real
from typing import Any, Callable, TypeVar, cast

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor

Function = TypeVar('Function', bound=Callable[..., Any])


def float_or_double(x: Tensor) -> Tensor:
    """Casts half precision to float32: the losses never compute products and softmaxes in half
    precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def in_full_precision(function: Function) -> Function:
    """Decorates a loss, so that it runs outside autocast, with half-precision inputs as float32.

    Autocast would multiply in half precision even if the inputs are float32.
    """

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        given = [float_or_double(x) if isinstance(x, Tensor) else x for x in args]
        named = {k: float_or_double(x) if isinstance(x, Tensor) else x for k, x in kwargs.items()}
        device = next(x.device for x in (*given, *named.values()) if isinstance(x, Tensor))
        with torch.autocast(device.type, enabled=False):
            return function(*given, **named)

    return cast(Function, wrapped)


def check_temperature(**temperatures: float) -> None:
    """Raises ValueError, naming the setting, if a temperature is not positive."""
    for name, value in temperatures.items():
        if not isinstance(value, Real) or not value > 0:
            raise ValueError(f'{name} must be positive, got {value!r}')


def mean_over_counted(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of ``values`` (B,) over the images where ``counted`` (B,) is true, or 0 if there are
    none.

    The result depends on ``values`` even when nothing counts, so that the graph stays whole.
    """
    return torch.where(counted, values, values * 0).sum() / counted.sum().clamp(min=1)


def mean_over_counted_of_all_ranks(values: Tensor, counted: Tensor) -> Tensor:
    """As :func:`mean_over_counted`, over the images of all ranks.

    Each rank returns its share, scaled by the number of ranks. DistributedDataParallel averages the
    gradients over the ranks, which then gives the gradient of one process with all images.
    """
    world_size = get_world_size()
    if world_size == 1:
        return mean_over_counted(values, counted)
    total = counted.sum().to(values.dtype)
    all_reduce(total)
    return torch.where(counted, values, values * 0).sum() * world_size / total.clamp(min=1)
