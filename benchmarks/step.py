"""A training step of PLRC beside one of MoCo v2: same trunk, images, optimiser, in turns."""

import torch
from mmengine.optim import OptimWrapper
from report import arguments, bars, interleaved, median, paired_ratio, photos, table, write
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

import plrc_plugin  # noqa: F401
from plrc_plugin.datasets.collate import collate_views
from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.randomness import SampleKey
from plrc_plugin.registry import MODELS

# What no implementation of PLRC can leave out: MoCo v2's passes, and a projection of each position.
LIMIT = 'MoCo v2, projected everywhere'
# name: depth, size, batch, threads, largest ratio aimed at
SETTINGS = {
    'R18, 128, batch 32, one core': (18, 128, 32, 1, 1.25),
    'R50, 224, batch 8, two cores': (50, 224, 8, 2, 1.05),
}


def batch(folder: str, size: int, count: int) -> dict:
    """Views of the first photographs, with their geometry and points."""
    data = ImageFolder(
        folder,
        pipeline=[
            dict(type='plrc_plugin.TwoViews', size=size),
            dict(type='plrc_plugin.SampleRegionPoints'),
        ],
    )
    return collate_views([data[SampleKey(0, 0, i)] for i in range(count)])


def trainer(kind: str, depth: int, data: dict, everywhere: bool = False, **settings):
    """A function that trains one step on the batch; ``everywhere``: the projector of MoCo v2 acts
    before the spatial mean, as PLRC's has to, and not after it."""
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type=f'plrc_plugin.{kind}',
            **settings,
            backbone=dict(type='plrc_plugin.ResNet', depth=depth),
        )
    )
    if everywhere:
        model.project = lambda features, projector: projector(features)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)
    wrapper = OptimWrapper(optimizer)
    return lambda: model.train_step(data, wrapper)


def trainers(depth: int, data: dict) -> dict:
    """PLRC with all its terms, in its warm-up without L_a, its limit, and MoCo v2."""
    return {
        'PLRC': trainer('PLRC', depth, data, warmup_epochs=0),
        'PLRC in its warm-up': trainer('PLRC', depth, data, alpha=0.5, warmup_epochs=1),
        LIMIT: trainer('MomentumContrast', depth, data, everywhere=True),
        'MoCo v2': trainer('MomentumContrast', depth, data),
    }


def spread(costs: list, others: list) -> str:
    """Smallest and largest ratio of CPU seconds within a round."""
    ratios = [cost.cpu / other.cpu for cost, other in zip(costs, others)]
    return f'{min(ratios):.2f}, {max(ratios):.2f}'


def flops(step) -> int:
    """Of the convolutions and matrix products of a step."""

    def in_place(_, rows, columns, **kwargs):  # torch's counter would pass over addmm_
        return 2 * rows[0] * rows[1] * columns[1]

    with FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.addmm_: in_place}
    ) as counter:
        step()
    return counter.get_total_flops()


def most_expensive(step, count: int = 12) -> str:
    with profile() as profiler:
        step()
    events = sorted(profiler.key_averages(), key=lambda e: -e.self_cpu_time_total)
    total = sum(e.self_cpu_time_total for e in events)
    return table(
        ['operator', 'share of the step, %', 'calls'],
        [[f'`{e.key}`', 100 * e.self_cpu_time_total / total, e.count] for e in events[:count]],
    )


def main() -> None:
    parser = arguments(__doc__, rounds=7)
    parser.add_argument('--settings', nargs='+', default=list(SETTINGS))
    args = parser.parse_args()
    rows, profiles, pictures = [], [], []
    for name in args.settings:
        depth, size, count, threads, target = SETTINGS[name]
        torch.set_num_threads(threads)
        cases = trainers(depth, batch(photos(args.photos), size, count))
        costs = interleaved(cases, args.rounds)
        products = {case: flops(step) for case, step in cases.items()}
        ratios = {case: paired_ratio(costs[case], costs['MoCo v2']) for case in cases}
        for case, ratio in ratios.items():
            cost = median(costs[case])
            rows.append(
                [
                    name,
                    case,
                    cost.wall,
                    cost.cpu,
                    ratio.wall,
                    ratio.cpu,
                    spread(costs[case], costs['MoCo v2']),
                    products[case] / products['MoCo v2'],
                    target if case == 'PLRC' else '',
                ]
            )
        pictures.append(
            bars(
                f'step_r{depth}',
                {case: ratio.cpu for case, ratio in ratios.items()},
                f'{name}: CPU seconds of a step ÷ MoCo v2',
                target,
            )
        )
        profiles.append(f'Where PLRC spends a step, {name}:\n\n' + most_expensive(cases['PLRC']))
    write(
        'step',
        'Step: PLRC beside MoCo v2',
        f'Medians of {args.rounds} rounds in turns; ratios are medians of the ratios within a '
        'round. CPU seconds leave out what other programs of the machine took. Products: '
        'multiplications and additions of convolutions and matrix products, counted by torch. '
        f"*{LIMIT}* is the limit: MoCo v2 whose projector acts at every position, as PLRC's "
        'has to.',
        *pictures,
        table(
            [
                'setting',
                'model',
                'wall, s',
                'CPU, s',
                'wall ÷ MoCo v2',
                'CPU ÷ MoCo v2',
                'least, most of the rounds',
                'products ÷ MoCo v2',
                'target',
            ],
            rows,
        ),
        *profiles,
    )


if __name__ == '__main__':
    main()
