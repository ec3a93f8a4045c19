"""Bytes that one pre-training step moves between processes: by formula, and counted by the kernel.

The processes talk over the loopback device, whose counters are read; run it in a network namespace
of its own, so that nobody else's traffic counts:

    unshare -rn sh -c 'ip link set lo up; python benchmarks/communication.py --processes 2 4'

Prints a table of measured against computed megabytes, and the formula's figures at scale.
"""

import argparse
import os
import tempfile

import torch
from mmengine.registry import MODELS
from torch import distributed as dist
from torch import multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

import plrc_plugin  # noqa: F401

MB = 1e6


def step_bytes(
    processes: int,
    parameters: int,
    batch: int,
    side: int,
    map_cells: int,
    dim: int = 128,
    points: int = 256,
    negatives: str = 'batch',
) -> dict:
    """Bytes that each process receives in a step, by purpose.

    Args:
        processes (int): W.
        parameters (int): trained ones.
        batch (int): images per process.
        side (int): of a view, in pixels.
        map_cells (int): h * w of the projected map.
        dim (int): D.
        points (int): M per view.
        negatives (str): of L_c; 'ranks' and 'queue' gather key points.
    """
    others = processes - 1
    share = others / processes
    return {
        'gradients (ring all-reduce)': 2 * share * 4 * parameters,
        'images to shuffle (all-to-all)': share * batch * 3 * side**2 * 4,
        'key maps back (all-to-all)': share * batch * dim * map_cells * 4,
        'keys to the queue (all-gather)': others * batch * dim * 4,
        'key points as negatives (all-gather)': others * batch * points * dim * 4
        if negatives in ('ranks', 'queue')
        else 0,
    }


def loopback_bytes() -> int:
    with open('/proc/net/dev') as file:
        return next(int(line.split()[1]) for line in file if line.strip().startswith('lo:'))


def worker(rank: int, processes: int, args: argparse.Namespace, store: str, results) -> None:
    torch.set_num_threads(1)
    os.environ['GLOO_SOCKET_IFNAME'] = 'lo'
    dist.init_process_group('gloo', rank=rank, world_size=processes, init_method=f'file://{store}')
    model = MODELS.build(
        dict(
            type='plrc_plugin.PLRC',
            queue_size=1024,
            warmup_epochs=0,
            negatives=args.negatives,
            backbone=dict(type='plrc_plugin.ResNet', depth=args.depth, base_channels=args.channels),
        )
    )
    model = DistributedDataParallel(model, broadcast_buffers=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(args.steps + 1):
        dist.barrier()
        if step == 1:  # the first builds buckets and connections
            before = loopback_bytes()
            dist.barrier()
        views = [view(args) for _ in range(2)]
        loss = model(*views, mode='loss')['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    dist.barrier()
    if rank == 0:
        results.put(
            dict(
                received=(loopback_bytes() - before) / args.steps / processes,
                parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
                cells=(args.side // model.module.stride) ** 2,
            )
        )
    dist.barrier()
    dist.destroy_process_group()


def view(args: argparse.Namespace) -> dict:
    affine = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).expand(args.batch, -1, -1)
    return dict(
        image=torch.randn(args.batch, 3, args.side, args.side),
        affine=affine,
        points=torch.rand(args.batch, args.points, 2),
        regions=torch.arange(args.points).expand(args.batch, -1) // 16,
    )


def measure(processes: int, args: argparse.Namespace) -> None:
    context = mp.get_context('spawn')
    results = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(worker, (processes, args, os.path.join(folder, 'store'), results), processes)
    measured = results.get()
    computed = step_bytes(
        processes,
        measured['parameters'],
        args.batch,
        args.side,
        measured['cells'],
        points=args.points,
        negatives=args.negatives,
    )
    total = sum(computed.values())
    print(
        f'{processes} processes, {args.negatives}: measured {measured["received"] / MB:.2f} MB per '
        f'process and step, formula {total / MB:.2f} MB, '
        f'difference {100 * (measured["received"] / total - 1):+.1f}%'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--processes', type=int, nargs='+', default=[2, 4])
    parser.add_argument('--steps', type=int, default=5)
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--side', type=int, default=96)
    parser.add_argument('--points', type=int, default=64)
    parser.add_argument('--depth', type=int, default=18)
    parser.add_argument('--channels', type=int, default=16)
    parser.add_argument('--negatives', nargs='+', default=['batch', 'ranks'])
    args = parser.parse_args()
    for negatives in args.negatives:
        for processes in args.processes:
            measure(processes, argparse.Namespace(**{**vars(args), 'negatives': negatives}))
    print('\nResNet-50, 32 images of 224 pixels per GPU, MB received per GPU and step:')
    sizes = (8, 64, 512)
    columns = [step_bytes(size, 27_966_656, 32, 224, 49, negatives='ranks') for size in sizes]
    for name in columns[0]:
        print(f'  {name:38}' + ''.join(f'{column[name] / MB:12.2f}' for column in columns))


if __name__ == '__main__':
    main()
