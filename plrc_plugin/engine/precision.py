"""Mixed precision on any device."""

from contextlib import contextmanager
from typing import Optional, Union

import torch
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper, OptimWrapper

from plrc_plugin.errors import SettingsError, check_positive
from plrc_plugin.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class MixedPrecisionOptimWrapper(AmpOptimWrapper):
    """mmengine's ``AmpOptimWrapper``, but it also runs on the CPU, and scales the loss only in
    float16.

    bfloat16 has the range of float32 and needs no scaler, so that no step has to ask the device
    whether its gradients overflowed. Losses and their softmaxes are float32 with either dtype.

    Args:
        dtype (str): ``'bfloat16'`` or ``'float16'``. Defaults to ``'bfloat16'``.
        loss_scale (str | float | dict): for float16: ``'dynamic'``, the initial scale, or the
            arguments of torch's ``GradScaler``. Defaults to ``'dynamic'``.
        **kwargs: arguments of ``OptimWrapper``.

    Raises:
        SettingsError: for another dtype, a scale that is not positive, or float16 on the CPU before
            torch 2.3, which has no scaler there.
    """

    def __init__(
        self, dtype: str = 'bfloat16', loss_scale: Union[str, float, dict] = 'dynamic', **kwargs
    ):
        if dtype not in ('bfloat16', 'float16'):
            raise SettingsError(
                f'MixedPrecisionOptimWrapper: dtype must be bfloat16 or float16, got {dtype!r}'
            )
        options = dict(loss_scale) if isinstance(loss_scale, dict) else {}
        if isinstance(loss_scale, (int, float)):
            options = dict(init_scale=float(loss_scale))
        elif loss_scale != 'dynamic' and not isinstance(loss_scale, dict):
            raise SettingsError(
                "MixedPrecisionOptimWrapper: loss_scale must be 'dynamic', a "
                f'number or the arguments of GradScaler, got {loss_scale!r}'
            )
        check_positive(
            'MixedPrecisionOptimWrapper: loss_scale', init_scale=options.get('init_scale', 1)
        )
        # The constructor of AmpOptimWrapper refuses the CPU.
        OptimWrapper.__init__(self, **kwargs)
        self.cast_dtype = getattr(torch, dtype)
        self.device_type = torch.device(get_device()).type
        self.loss_scaler = _grad_scaler(self.device_type, dtype == 'float16', options)
        self._scale_update_param: Optional[float] = None

    @contextmanager
    def optim_context(self, model):
        with (
            OptimWrapper.optim_context(self, model),
            torch.autocast(self.device_type, self.cast_dtype),
        ):
            yield


def _grad_scaler(device_type: str, enabled: bool, options: dict):
    """Returns torch's ``GradScaler``; before torch 2.3 that of CUDA, which works anywhere if it is
    off."""
    if hasattr(torch.amp, 'GradScaler'):
        return torch.amp.GradScaler(device_type, enabled=enabled, **options)
    if enabled and device_type != 'cuda':
        raise SettingsError(
            f'MixedPrecisionOptimWrapper: torch {torch.__version__} scales no float16 losses on '
            f"{device_type}: set dtype='bfloat16', or install torch 2.3 or newer"
        )
    return torch.cuda.amp.GradScaler(enabled=enabled, **options)
