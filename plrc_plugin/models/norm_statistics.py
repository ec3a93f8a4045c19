"""Estimates batch-norm statistics on other images than those of training."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def norms_with_statistics(network: nn.Module) -> list[_BatchNorm]:
    """Returns the batch norms that use running statistics in evaluation mode."""
    return [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]


@torch.no_grad()
def estimate_statistics(network: nn.Module, groups: Iterable[Tensor]) -> None:
    """Replaces running statistics by the mean and variance over all images of all groups.

    Every norm accumulates its inputs, so that the first group weighs as much as the last. Meanwhile
    each norm normalises by the current group, as in training, and the rest of the network is in
    evaluation mode. In the end, modes, momenta and step counters are as before.

    Args:
        network: a network with batch norms, see :func:`norms_with_statistics`.
        groups: inputs of the network, (B, 3, S, S), on its device. A norm needs more than one
            value of a channel in each group.
    """
    norms = norms_with_statistics(network)
    moments = {norm: _Moments(norm) for norm in norms}
    kept = [(module, module.training) for module in network.modules()]
    counters = {
        norm: norm.num_batches_tracked.clone()
        for norm in norms
        if norm.num_batches_tracked is not None
    }
    network.eval()
    for norm in norms:
        norm.train()
    hooks = [norm.register_forward_pre_hook(moments[norm].add) for norm in norms]
    try:
        for images in groups:
            network.forward(images)  # a compiled call would skip the hooks
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in kept:
            module.training = mode
        for norm, counter in counters.items():
            norm.num_batches_tracked.copy_(counter)
    for norm in norms:
        moments[norm].write(norm)


def read_statistics(network: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Returns copies of the running mean and variance (C,) of each norm."""
    norms = norms_with_statistics(network)
    return [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]


def write_statistics(network: nn.Module, statistics: list[tuple[Tensor, Tensor]]) -> None:
    """Writes back what :func:`read_statistics` returned."""
    for norm, (mean, variance) in zip(norms_with_statistics(network), statistics):
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


@contextmanager
def statistics_restored(network: nn.Module) -> Iterator[None]:
    """A context that restores the running statistics at its end, bit for bit."""
    kept = read_statistics(network)
    try:
        yield
    finally:
        write_statistics(network, kept)


class _Moments:
    """Count, mean and sum of squared deviations (C,) of the inputs of a norm, in float64."""

    def __init__(self, norm: _BatchNorm):
        self.count = 0
        self.mean = torch.zeros_like(norm.running_mean, dtype=torch.float64)
        self.deviations = torch.zeros_like(self.mean)

    def add(self, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """A hook before the norm's forward, whose input is (B, C, ...)."""
        channels = inputs[0].transpose(0, 1).flatten(1)
        variance, mean = torch.var_mean(channels.float(), 1, correction=0)
        count = channels.shape[1]
        total = self.count + count
        step = mean.double() - self.mean
        # The update of Chan, Golub and LeVeque, because sums of squares would cancel.
        self.deviations += count * variance.double() + step**2 * (self.count * count / total)
        self.mean += step * (count / total)
        self.count = total

    def write(self, norm: _BatchNorm) -> None:
        """Writes the running statistics. The variance is unbiased, as in training."""
        if self.count > 1:  # otherwise the norm is not on the way to the output
            norm.running_mean.copy_(self.mean)
            norm.running_var.copy_(self.deviations / (self.count - 1))
