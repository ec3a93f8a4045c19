"""Log-sum-exp of similarities, the denominator of Eq. 1 to 3, without the logit matrix."""
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Logits held at a time: 16 MB of float32.
CHUNK_ELEMENTS = 1 << 22


class _SimilarityLogSumExp(torch.autograd.Function):
    """Rows of queries are taken a chunk at a time; a chunk's logits die with it.

    The gradient of ``lse_i`` with respect to ``q_i`` is the softmax-weighted mean of the keys, a
    row of D numbers: it is computed beside ``lse_i`` while the logits are at hand, and backward
    is one product. Keys usually come from a momentum encoder; where they do need a gradient,
    backward forms the softmax a second time.
    """

    @staticmethod
    def forward(ctx, queries: Tensor, keys: Tensor, bias: Tensor, temperature: float) -> Tensor:
        rows = max(1, CHUNK_ELEMENTS // max(1, len(keys)))
        lse = queries.new_empty(len(queries))
        mean_keys = torch.empty_like(queries) if ctx.needs_input_grad[0] else None
        for start in range(0, len(queries), rows):
            part = slice(start, start + rows)
            logits = torch.addmm(bias, queries[part], keys.T, alpha=1 / temperature)
            peak = logits.amax(1, keepdim=True)
            weights = logits.sub_(peak).exp_()
            total = weights.sum(1, keepdim=True)
            lse[part] = (total.log() + peak).squeeze(1)
            if mean_keys is not None:
                mean_keys[part] = (weights @ keys).div_(total)
        ctx.save_for_backward(queries, keys, bias, lse, mean_keys)
        ctx.temperature = temperature
        ctx.rows = rows
        return lse

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_lse: Tensor):
        queries, keys, bias, lse, mean_keys = ctx.saved_tensors
        scaled = grad_lse.unsqueeze(1) / ctx.temperature
        grad_queries = scaled * mean_keys if ctx.needs_input_grad[0] else None
        grad_keys = None
        if ctx.needs_input_grad[1]:
            grad_keys = torch.zeros_like(keys)
            for start in range(0, len(queries), ctx.rows):
                part = slice(start, start + ctx.rows)
                logits = torch.addmm(bias, queries[part], keys.T, alpha=1 / ctx.temperature)
                weights = logits.sub_(lse[part].unsqueeze(1)).exp_()
                grad_keys.addmm_(weights.T, scaled[part] * queries[part])
        return grad_queries, grad_keys, None, None


def similarity_logsumexp(queries: Tensor, keys: Tensor, temperature: float,
                         key_valid: Tensor) -> Tensor:
    """``log sum_j exp(q_i . k_j / temperature)`` over the valid keys.

    Args:
        queries (Tensor): (Q, D).
        keys (Tensor): (K, D).
        temperature (float): tau.
        key_valid (Tensor): (K,) bool; the others are left out of the sum.

    Returns:
        Tensor: (Q,). Memory beside the inputs: one (Q, D) tensor and ``CHUNK_ELEMENTS`` logits.
    """
    # Finite, so that a batch without any valid key stays free of NaN.
    bias = torch.where(key_valid, 0.0, -1e9).to(queries.dtype)
    return _SimilarityLogSumExp.apply(queries, keys, bias, temperature)
