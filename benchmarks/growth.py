"""How cost grows: batch, points, crop, loader workers, processes; measured beside theory."""

import os
import tempfile

import torch
from matplotlib.figure import Figure
from report import arguments, interleaved, median, photos, save, table, write
from torch import distributed as dist
from torch import multiprocessing as mp
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from plrc_plugin.datasets.collate import collate_views
from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.datasets.samplers import KeyedSampler
from plrc_plugin.losses.point_region_contrast import point_region_contrast
from plrc_plugin.registry import MODELS


def views(batch, size=128, points=256):
    """Random images, whose points all lie in regions of both views."""
    torch.manual_seed(0)
    return dict(
        image=torch.randn(batch, 3, size, size),
        points=torch.rand(batch, points, 2),
        regions=torch.arange(points).expand(batch, -1) * 16 // points,
        affine=torch.tensor([[0.6, 0, 0.2], [0, 0.6, 0.2]]).expand(batch, -1, -1),
    )


def build(kind='PLRC', **settings):
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type=f'plrc_plugin.{kind}',
            queue_size=4096,
            **settings,
            backbone=dict(type='plrc_plugin.ResNet', depth=18),
        )
    )


def step(data, model):
    """A function that runs forward and backward."""

    def run():
        model.zero_grad()
        model(data, data, mode='loss')['loss'].backward()

    return run


def contrast(batch, points):
    """Likewise of L_c alone."""
    queries, keys = (normalize(torch.randn(batch, points, 128), dim=2) for _ in range(2))
    queries.requires_grad_()
    regions = torch.arange(points).expand(batch, -1) * 16 // points
    return lambda: point_region_contrast(queries, keys, regions, regions).backward()


def cpu_seconds(cases, rounds):
    return {name: median(costs).cpu for name, costs in interleaved(cases, rounds).items()}


def images_per_second(folder, workers, count, rounds):
    """Of a loader, by the clock, after its workers have started: the median of some epochs."""
    data = ImageFolder(
        folder,
        indices=count,
        pipeline=[
            dict(type='plrc_plugin.TwoViews', size=224),
            dict(type='plrc_plugin.SampleRegionPoints'),
        ],
    )
    loader = DataLoader(
        data,
        16,
        sampler=KeyedSampler(data),
        num_workers=workers,
        collate_fn=collate_views,
        persistent_workers=workers > 0,
    )
    costs = interleaved({'epoch': lambda: [None for _ in loader]}, rounds)['epoch']
    return len(data) / median(costs).wall


def process(rank, size, store, rounds, results):
    torch.set_num_threads(1)
    dist.init_process_group('gloo', rank=rank, world_size=size, init_method=f'file://{store}')
    model = DistributedDataParallel(build(warmup_epochs=0), broadcast_buffers=False)
    run = step(views(4, 96, 64), model)
    cost = median(interleaved({'step': run}, rounds)['step'])
    if rank == 0:
        results.put(cost.cpu)
    dist.barrier()
    dist.destroy_process_group()


def of_processes(size, rounds):
    """CPU seconds that a step costs one of ``size`` processes."""
    results = mp.get_context('spawn').SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(process, (size, os.path.join(folder, 'store'), rounds, results), size)
    return results.get()


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    for name, sizes in dict(
        batches=(2, 4, 8, 16),
        points=(64, 256, 1024, 4096),
        crops=(64, 96, 128, 192),
        processes=(1, 2, 4),
    ).items():
        parser.add_argument(f'--{name}', type=int, nargs='+', default=sizes)
    parser.add_argument('--images', type=int, default=192, help='of the loader')
    args = parser.parse_args()
    torch.set_num_threads(1)
    rounds, batches, points, crops = args.rounds, args.batches, args.points, args.crops
    cores = len(os.sched_getaffinity(0))
    workers = [w for w in (1, 2, 4, 8, 16) if w <= max(cores, 2)]
    moco, plrc = build('MomentumContrast'), build(warmup_epochs=0)
    folder = photos(args.photos)
    # title, x axis, y axis, {curve: (measured, slope in theory)}
    panels = [
        (
            'Batch, P·N = 256',
            'images',
            'CPU s',
            {
                'step of MoCo v2': (
                    cpu_seconds({b: step(views(b), moco) for b in batches}, rounds),
                    1,
                ),
                'step of PLRC': (
                    cpu_seconds({b: step(views(b), plrc) for b in batches}, rounds),
                    1,
                ),
                'L_c alone': (cpu_seconds({b: contrast(b, 256) for b in batches}, rounds), 2),
            },
        ),
        (
            'Points per view, batch 4',
            'P·N',
            'CPU s',
            {
                'step of PLRC': (
                    cpu_seconds({p: step(views(4, points=p), plrc) for p in points}, rounds),
                    2,
                ),
                'L_c alone': (cpu_seconds({p: contrast(4, p) for p in points}, rounds), 2),
            },
        ),
        (
            'Crop, batch 4, P·N = 256',
            'pixels',
            'CPU s',
            {'step of PLRC': (cpu_seconds({s: step(views(4, s), plrc) for s in crops}, rounds), 2)},
        ),
        (
            'Loader',
            'workers',
            'images/s',
            {
                'two views of 224': (
                    {w: images_per_second(folder, w, args.images, rounds) for w in workers},
                    1,
                )
            },
        ),
        (
            'Processes, 4 images each',
            'processes',
            'CPU s per process and step',
            {'step of PLRC': ({n: of_processes(n, rounds) for n in args.processes}, 0)},
        ),
    ]
    figure = Figure(figsize=(3.2 * len(panels), 3), layout='constrained')
    axes = figure.subplots(1, len(panels))
    rows = []
    for axis, (title, x_name, y_name, curves) in zip(axes, panels):
        for name, (measured, slope) in curves.items():
            xs, ys = list(measured), list(measured.values())
            (line,) = axis.loglog(xs, ys, 'o-', label=name)
            if slope is not None:  # through the last point, where small terms count least
                axis.loglog(
                    xs,
                    [ys[-1] * (x / xs[-1]) ** slope for x in xs],
                    '--',
                    color=line.get_color(),
                    label=f'slope {slope}',
                )
            logs = torch.tensor([xs[-2:], ys[-2:]], dtype=torch.double).log()
            got = float((logs[1, 1] - logs[1, 0]) / (logs[0, 1] - logs[0, 0]))
            rows.append(
                [
                    title,
                    name,
                    ', '.join(f'{x}: {y:.3g}' for x, y in measured.items()),
                    y_name,
                    got,
                    '' if slope is None else slope,
                ]
            )
        low, high = axis.get_ylim()
        axis.set(title=title, xlabel=x_name, ylabel=y_name, ylim=(low / 2, high * 2))
        axis.set_xticks(xs, xs, minor=False)
        axis.minorticks_off()
        axis.legend(fontsize=7)
    write(
        'growth',
        'Growth',
        f'Forward and backward of ResNet-18 unless said otherwise; medians of {rounds} rounds in '
        'turns. The last column but one is the slope, on logarithmic axes, between the last two '
        'points. In theory a step of PLRC is linear in the batch but for L_c, and in the '
        'points a constant plus L_c and L_a, both quadratic. A process costs the same however '
        'many there are, but for what it '
        f'says to the others; with more of them than the {cores} cores of this machine '
        'they displace each other in its caches.',
        save(figure, 'growth', 'Cost against size'),
        table(['panel', 'curve', 'measured', 'unit', 'slope', 'in theory'], rows),
    )


if __name__ == '__main__':
    main()
