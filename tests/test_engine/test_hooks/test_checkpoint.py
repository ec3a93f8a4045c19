"""What the checkpoint hook looks at before it saves."""

import pytest
import torch
from torch import nn

from plrc_plugin.engine.hooks.checkpoint import average_running_statistics, check_finite


@pytest.mark.parametrize('spoil', [float('nan'), float('inf')])
def test_a_model_that_is_not_finite_is_not_saved(spoil):
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    check_finite(model, 7)
    model[1].running_var[0] = spoil  # buffers count
    with pytest.raises(FloatingPointError, match=r'1 tensors .* iteration 7, first 1.running_var'):
        check_finite(model, 7)


def test_statistics_of_one_process_are_its_own():
    model = nn.BatchNorm1d(2)
    model(torch.rand(8, 2))
    before = model.running_mean.clone()
    average_running_statistics(model)
    assert torch.equal(model.running_mean, before)
