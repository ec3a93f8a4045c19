"""Mixed precision on every torch from 2.1, with and without the scaler of torch 2.3."""

import pytest
import torch
from torch import nn

from plrc_plugin.engine.precision import MixedPrecisionOptimWrapper
from plrc_plugin.errors import SettingsError

pytestmark = pytest.mark.stack


@pytest.fixture(params=['as installed', 'before torch 2.3'])
def _scaler(request, monkeypatch):
    if request.param == 'before torch 2.3':
        monkeypatch.delattr(torch.amp, 'GradScaler', raising=False)


def one_step(**settings) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight before and after a step."""
    layer = nn.Linear(4, 1, bias=False)
    before = layer.weight.detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    wrapper = MixedPrecisionOptimWrapper(optimizer=optimizer, **settings)
    with wrapper.optim_context(layer):
        output = layer(torch.ones(2, 4))
    assert output.dtype == getattr(torch, settings.get('dtype', 'bfloat16'))
    wrapper.update_params(output.float().mean())
    wrapper.load_state_dict(wrapper.state_dict())
    return before, layer.weight.detach()


@pytest.mark.usefixtures('_scaler')
def test_bfloat16_steps_by_the_gradient_itself():
    before, after = one_step()
    assert torch.allclose(before - after, torch.full((1, 4), 0.1), atol=1e-6)


@pytest.mark.skipif(torch.cuda.is_available(), reason='CUDA has a scaler on every torch')
def test_float16_on_the_cpu_before_torch_2_3_names_what_works(monkeypatch):
    monkeypatch.delattr(torch.amp, 'GradScaler', raising=False)
    with pytest.raises(SettingsError, match="set dtype='bfloat16', or install torch 2.3"):
        one_step(dtype='float16')
