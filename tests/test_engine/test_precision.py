"""The optimiser wrapper of mixed precision refuses what it cannot use."""

import pytest

from plrc_plugin.engine.precision import MixedPrecisionOptimWrapper
from plrc_plugin.errors import SettingsError


@pytest.mark.parametrize('scale', ['typo', -1.0, dict(init_scale=0), None])
def test_loss_scales(scale):
    with pytest.raises(SettingsError, match='loss_scale'):
        MixedPrecisionOptimWrapper(loss_scale=scale, optimizer=None)


@pytest.mark.parametrize('dtype', ['float32', 'half', None])
def test_dtypes(dtype):
    with pytest.raises(SettingsError, match='dtype must be bfloat16 or float16'):
        MixedPrecisionOptimWrapper(dtype=dtype, optimizer=None)
