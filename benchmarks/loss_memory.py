"""Time and peak memory of L_c's denominators beside the plain matrix: forward and backward."""

import argparse
import multiprocessing
import os
import resource

import torch
from report import Cost, arguments, bars, cost_of, median, paired_ratio, table, write
from torch.nn.functional import normalize

from plrc_plugin.losses.similarity import similarity_logsumexp

TEMPERATURE = 0.2


def tiled(queries, keys):
    """The plug-in's."""
    return similarity_logsumexp(queries, keys, TEMPERATURE, torch.ones(len(keys), dtype=torch.bool))


def matrix(queries, keys):
    """All logits at once."""
    return (queries @ keys.T / TEMPERATURE).logsumexp(1)


def measure(function, args, connection) -> None:
    """In a process of its own, whose peak is then that of the function."""
    torch.manual_seed(0)
    queries = normalize(torch.randn(args.queries, args.dim), dim=1).requires_grad_()
    keys = normalize(torch.randn(args.keys, args.dim), dim=1)
    weights = torch.randn(args.queries)

    def step(rows=slice(None)):
        queries.grad = None
        value = function(queries[rows], keys)
        (value * weights[rows]).sum().backward()
        return value

    step(slice(8))  # what libraries set up once does not count
    with open('/proc/self/statm') as file:
        before = int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    results = []
    cost = cost_of(lambda: results.append(step()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    connection.send(
        (cost, (peak - before) / 1e6, results[0].detach().numpy(), queries.grad.numpy())
    )


def in_own_process(function, args):
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context('fork').Process(
        target=measure, args=(function, args, there)
    )
    process.start()
    there.close()
    result = here.recv()
    process.join()
    return result


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument('--queries', type=int, default=8192)
    parser.add_argument('--keys', type=int, default=65536)
    parser.add_argument('--dim', type=int, default=128)
    args: argparse.Namespace = parser.parse_args()
    costs, peaks, results = {}, {}, {}
    for _ in range(args.rounds):
        for function in (tiled, matrix):
            cost, peak, *result = in_own_process(function, args)
            costs.setdefault(function.__name__, []).append(Cost(*cost))
            peaks.setdefault(function.__name__, []).append(peak)
            results[function.__name__] = result
    value, gradient = (abs(a - b).max() for a, b in zip(results['tiled'], results['matrix']))
    scale = abs(results['matrix'][1]).max()
    ratios = {name: paired_ratio(costs[name], costs['matrix']) for name in costs}
    rows = [[name, *median(costs[name]), *ratios[name], float(max(peaks[name]))] for name in costs]
    write(
        'loss_memory',
        'Memory of L_c',
        f'Denominators of {args.queries} queries against {args.keys} keys of {args.dim}, float32, '
        f'forward and backward, each run in a process of its own, {args.rounds} in turns. '
        'Medians; the largest peak. Target: below 200 MB, ratio at most 1.',
        bars(
            'loss_memory',
            {name: float(max(peaks[name])) for name in peaks},
            'peak memory beside the inputs, MB',
            target=200,
        ),
        table(
            [
                'form',
                'wall, s',
                'CPU, s',
                'wall ÷ matrix',
                'CPU ÷ matrix',
                'peak memory beside the inputs, MB',
            ],
            rows,
        ),
        f'Largest difference of a value: {value:.1e}; of a gradient: {gradient:.1e}, where the '
        f'largest is {scale:.1e}.',
    )


if __name__ == '__main__':
    main()
