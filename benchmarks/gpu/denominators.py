"""L_c's denominators: tiles of logits, fused attention, and the plain matrix."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from plrc_plugin.losses.similarity import similarity_logsumexp

from .cases import peak_memory, precision_of, relative, seconds_of
from .pieces import Report, Setting

TEMPERATURE = 0.2
# Queries and keys to the log-sum-exp of each query and its gradient, the mean key, over tau.
Form = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def by_autograd(logsumexp: Callable[[Tensor, Tensor], Tensor]) -> Form:
    def form(queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        queries = queries.detach().requires_grad_()
        lse = logsumexp(queries, keys)
        return lse.detach(), torch.autograd.grad(lse.sum(), queries)[0]

    return form


def tiles(queries: Tensor, keys: Tensor) -> Tensor:
    """The plug-in's."""
    valid = torch.ones(len(keys), dtype=torch.bool, device=keys.device)
    return similarity_logsumexp(queries, keys, TEMPERATURE, valid)


def matrix(queries: Tensor, keys: Tensor) -> Tensor:
    """All logits at once."""
    return (queries @ keys.T / TEMPERATURE).logsumexp(1)


def attention(kernel: Callable[..., tuple], dtype: torch.dtype) -> Form:
    """One pass of fused attention whose values are the keys: what it gives is the mean key, the
    gradient of the log-sum-exp but for tau, and the log-sum-exp comes with it."""

    def form(queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        q, k = (x.to(dtype)[None, None] for x in (queries, keys))
        mean_keys, lse = kernel(q, k)
        lse, mean_keys = lse.reshape(-1)[: len(queries)], mean_keys[0, 0]
        return lse.float(), mean_keys.float() / TEMPERATURE

    return form


def efficient(q: Tensor, k: Tensor) -> tuple:
    """torch's memory-efficient attention, which has float32."""
    run = torch.ops.aten._scaled_dot_product_efficient_attention
    return run(q, k, k, None, True, scale=1 / TEMPERATURE)[:2]


def flash(q: Tensor, k: Tensor) -> tuple:
    run = torch.ops.aten._scaled_dot_product_flash_attention
    return run(q, k, k, scale=1 / TEMPERATURE)[:2]


def flash_of_cpu(q: Tensor, k: Tensor) -> tuple:
    run = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return run(q, k, k, scale=1 / TEMPERATURE)[:2]


def flex() -> Callable[..., tuple]:
    """torch's FlexAttention, compiled to one Triton kernel."""
    from torch.nn.attention import flex_attention as module

    compiled = torch.compile(module.flex_attention)

    def run(q: Tensor, k: Tensor) -> tuple:
        if not hasattr(module, 'AuxRequest'):  # before torch 2.9
            return compiled(q, k, k, scale=1 / TEMPERATURE, return_lse=True)
        request = module.AuxRequest(lse=True)
        mean_keys, further = compiled(q, k, k, scale=1 / TEMPERATURE, return_aux=request)
        return mean_keys, further.lse

    return run


def forms(device: str) -> dict[str, tuple[str, Callable[[], Form]]]:
    """Name to the precision of its products, and what makes the form."""
    found = {
        'tiles, float32': ('float32', lambda: by_autograd(tiles)),
        'plain matrix, float32': ('float32', lambda: by_autograd(matrix)),
    }
    if device != 'cuda':
        found['fused attention of the CPU, float32'] = (
            'float32',
            lambda: attention(flash_of_cpu, torch.float32),
        )
        return found
    half = torch.bfloat16
    return {
        **found,
        'tiles, TF32': ('TF32', lambda: by_autograd(tiles)),
        'plain matrix, TF32': ('TF32', lambda: by_autograd(matrix)),
        'plain matrix, compiled, TF32': ('TF32', lambda: by_autograd(torch.compile(matrix))),
        'efficient attention, float32': ('float32', lambda: attention(efficient, torch.float32)),
        'efficient attention, TF32': ('TF32', lambda: attention(efficient, torch.float32)),
        'efficient attention, bfloat16': ('float32', lambda: attention(efficient, half)),
        'flash attention, bfloat16': ('float32', lambda: attention(flash, half)),
        'FlexAttention, TF32': ('TF32', lambda: attention(flex(), torch.float32)),
        'FlexAttention, bfloat16': ('float32', lambda: attention(flex(), half)),
    }


def in_double(queries: Tensor, keys: Tensor, rows: int = 256) -> tuple[Tensor, Tensor]:
    """Log-sum-exp and mean key over tau in float64, some rows at a time."""
    keys = keys.double()
    parts = []
    for some in queries.double().split(rows):
        logits = some @ keys.T / TEMPERATURE
        parts.append((logits.logsumexp(1), logits.softmax(1) @ keys / TEMPERATURE))
    lse, gradient = (torch.cat(part) for part in zip(*parts))
    return lse, gradient


def measure_denominators(setting: Setting) -> Report:
    """8,192 query points against 65,536 keys of 128: value and gradient of the queries, which
    come together, and their largest difference from float64. Attention with the keys as values
    gives both in one fused pass: its output is the mean key. The plug-in uses the tiles."""
    report = Report()
    count, many, dim = setting.sized((8192, 65536, 128), (64, 256, 16))
    rows = report.table(
        f'{count} queries, {many} keys of {dim}',
        ['form', 'ms', 'memory, MB', 'difference of the value', 'of the gradient'],
    )
    generator = torch.Generator().manual_seed(0)
    queries, keys = (
        normalize(torch.randn(n, dim, generator=generator), dim=1).to(setting.device)
        for n in (count, many)
    )
    expected = in_double(queries, keys)
    for name, (precision, make) in forms(setting.device).items():
        try:
            with precision_of(precision, setting.device):
                form = make()
                errors = [relative(*pair) for pair in zip(form(queries, keys), expected)]
                seconds = seconds_of(
                    lambda form=form: form(queries, keys), setting.device, setting.sized(10, 1)
                )
                memory = peak_memory(lambda form=form: form(queries, keys), setting.device)
        except Exception as error:  # a kernel that this card or torch lacks: the others go on
            problem = f'{type(error).__name__}: {" ".join(str(error).split())[:120]}'
            rows.append([name, problem, '-', '-', '-'])
            continue
        rows.append([name, 1000 * seconds, memory, *errors])
        report.numbers[name] = seconds
        if name.startswith(('tiles', 'fused')):
            allowed = 2e-3 if precision == 'TF32' else 1e-4
            report.at_most(f'{name}: difference', max(errors), allowed)
    if setting.device != 'cuda':
        report.needs_cuda('efficient and flash attention, FlexAttention')
    return report
