"""Log-sum-exp of similarities, the denominator of Eq. 1 to 3, without the logit matrix."""

import math
from typing import Any, Optional

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# One square tile of logits is held at a time. On a CPU it fits the second-level cache (1 MB of
# float32); elsewhere it is large enough to keep the device busy (64 MB).
TILE_OF_CPU, TILE = 512, 4096
LEFT_OUT = -1e9  # finite, so that a batch without any valid key stays free of NaN


class _SimilarityLogSumExp(torch.autograd.Function):
    """Goes through tiles of logits and keeps their row sums relative to the largest logit so far
    (Milakov and Gimelshein, arXiv 1805.02867).

    The gradient of ``lse_i`` with respect to ``q_i`` is the softmax-weighted mean of the keys, a
    row of D numbers. It is computed together with ``lse_i`` while the logits are at hand, so that
    backward is one product. Keys usually come from a momentum encoder and need no gradient. If they
    do, backward computes the softmax a second time.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        bias: Tensor,
        temperature: float,
        left_out: Optional[Tensor],
        group: Optional[Tensor],
    ) -> Tensor:
        size = _tile_size(queries)
        tile = queries.new_empty(min(size, len(queries)), min(size, len(keys)))
        lse = queries.new_empty(len(queries))
        mean_keys = torch.empty_like(queries) if ctx.needs_input_grad[0] else None
        for start in range(0, len(queries), size):
            rows = slice(start, start + size)
            part = queries[rows]
            peak = part.new_full((len(part), 1), -math.inf)
            total, weighted_keys = torch.zeros_like(peak), torch.zeros_like(part)
            for first, some_keys in zip(range(0, len(keys), size), keys.split(size)):
                columns = slice(first, first + size)
                logits = _logits(part, some_keys, bias[columns], temperature, tile)
                if left_out is not None and group is not None:
                    logits.masked_fill_(left_out[:, columns][group[rows]], LEFT_OUT)
                new_peak = torch.maximum(peak, logits.amax(1, keepdim=True))
                weights = logits.sub_(new_peak).exp_()
                shrink = (peak - new_peak).exp_()
                total.mul_(shrink).add_(weights.sum(1, keepdim=True))
                if mean_keys is not None:
                    weighted_keys.mul_(shrink).addmm_(weights, some_keys)
                peak = new_peak
            lse[rows] = (total.log() + peak).squeeze(1)
            if mean_keys is not None:
                mean_keys[rows] = weighted_keys.div_(total)
        ctx.save_for_backward(queries, keys, bias, lse, mean_keys, left_out, group)
        ctx.temperature = temperature
        return lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_lse: Tensor) -> tuple[Optional[Tensor], ...]:
        queries, keys, bias, lse, mean_keys, left_out, group = ctx.saved_tensors
        scaled = grad_lse.unsqueeze(1) / ctx.temperature
        grad_queries = scaled * mean_keys if ctx.needs_input_grad[0] else None
        grad_keys = None
        if ctx.needs_input_grad[1]:
            grad_keys = torch.zeros_like(keys)
            scaled_queries = scaled * queries
            size = _tile_size(queries)
            tile = queries.new_empty(min(size, len(queries)), min(size, len(keys)))
            for first, some_keys in zip(range(0, len(keys), size), keys.split(size)):
                columns = slice(first, first + size)
                for start in range(0, len(queries), size):
                    rows = slice(start, start + size)
                    logits = _logits(queries[rows], some_keys, bias[columns], ctx.temperature, tile)
                    if left_out is not None and group is not None:
                        logits.masked_fill_(left_out[:, columns][group[rows]], LEFT_OUT)
                    weights = logits.sub_(lse[rows].unsqueeze(1)).exp_()
                    grad_keys[columns].addmm_(weights.T, scaled_queries[rows])
        return grad_queries, grad_keys, None, None, None, None


def _tile_size(x: Tensor) -> int:
    return TILE_OF_CPU if x.device.type == 'cpu' else TILE


def _logits(
    queries: Tensor, keys: Tensor, bias: Tensor, temperature: float, tile: Tensor
) -> Tensor:
    """Writes ``queries @ keys.T / temperature + bias`` into the tile. On a CPU, a new tile for each
    product would cost more than the addition."""
    return torch.addmm(
        bias, queries, keys.T, alpha=1 / temperature, out=tile[: len(queries), : len(keys)]
    )


def similarity_logsumexp(
    queries: Tensor,
    keys: Tensor,
    temperature: float,
    key_valid: Tensor,
    left_out: Optional[Tensor] = None,
    group: Optional[Tensor] = None,
) -> Tensor:
    """``log sum_j exp(q_i . k_j / temperature)`` over the valid keys.

    Args:
        queries (Tensor): (Q, D).
        keys (Tensor): (K, D).
        temperature (float): tau.
        key_valid (Tensor): (K,) bool; keys that are not valid are left out of every sum.
        left_out (Tensor, optional): (G, K) bool, further keys that the queries of each group leave
            out. Defaults to none.
        group (Tensor, optional): (Q,) int64, the group of each query, with ``left_out``.

    Returns:
        Tensor: (Q,). Memory beside the inputs: one (Q, D) tensor and one tile of logits.
    """
    bias = torch.where(key_valid, 0.0, LEFT_OUT).to(queries.dtype)
    return _SimilarityLogSumExp.apply(queries, keys, bias, temperature, left_out, group)
