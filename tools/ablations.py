"""The paper's ablations: every row with its published numbers and the command that runs it.

    python tools/ablations.py           # all
    python tools/ablations.py 3b 5      # Tab. 3b and Fig. 5

SWEEPS below holds every row; its configs are those of configs/ablations. The default setting is a
row of each part of Tab. 3, so that one run serves all of them. tools/transfer_table.py takes the
checkpoints to VOC.
"""

import argparse
from typing import NamedTuple

POINTS = 'train_dataloader.dataset.pipeline.1.'


class Sweep(NamedTuple):
    """A setting, its values, and for each the published AP, AP50 and AP75 on VOC test2007 as far as
    the text tells them."""

    title: str
    config: str
    setting: str
    rows: dict
    fixed: dict = {}  # noqa: RUF012 (a NamedTuple has fields; none of these is changed)


# Values have the type that the config has: mim gridsearch insists on it.
SWEEPS = {
    '3a': [
        Sweep(
            'distillation strategy',
            'plrc_in1k_100e',
            'model.strategy',
            {1: (58.0, 82.5, 64.7), 2: (57.6, 83.0, 64.1), 3: (58.0, 82.8, 64.3)},
        )
    ],
    '3b': [
        Sweep(
            'alpha, weight of L_c against L_a',
            'plrc_in1k_100e',
            'model.alpha',
            {
                0.0: (57.3, 82.0, 63.8),
                0.3: (57.5, 82.1, 64.1),
                0.5: (58.0, 82.5, 64.7),
                0.7: (57.6, 82.3, 64.3),
            },
        )
    ],
    '3c': [
        Sweep(
            'beta, weight of the point losses',
            'plrc_in1k_100e',
            'model.beta',
            {
                0.3: (56.4, 81.5, 62.4),
                0.5: (57.1, 82.1, 63.8),
                0.7: (58.0, 82.5, 64.7),
                0.9: (56.4, 81.5, 62.5),
            },
        )
    ],
    '3d': [
        Sweep(
            'P, points per region',
            'plrc_in1k_100e',
            POINTS + 'points_per_region',
            {8: (57.1, 81.8, 63.9), 16: (58.0, 82.5, 64.7), 32: (58.2, 82.7, 65.1)},
        )
    ],
    '3e': [
        Sweep(
            'n of the n x n grid',
            'plrc_in1k_100e',
            POINTS + 'regions.n',
            {2: (57.1, 82.1, 63.7), 4: (58.0, 82.5, 64.7), 8: (57.6, 82.2, 64.3)},
        )
    ],
    '3f': [
        Sweep(
            'R, resolution of sampling',
            'plrc_in1k_100e',
            POINTS + 'resolution',
            {14: (57.3, 81.9, 63.7), 56: (58.0, 82.5, 64.7), 224: (57.2, 82.2, 63.6)},
        )
    ],
    '5': [
        Sweep(
            'P without L_a',
            'plrc_in1k_100e',
            POINTS + 'points_per_region',
            {2: (), 4: (56.6,), 8: (), 16: (), 32: (), 64: ()},
            fixed={'model.alpha': 1.0},
        ),
        Sweep('pooled regions', 'regioncontrast_in1k_100e', POINTS + 'regions.n', {4: (56.6,)}),
    ],
    '6': [
        Sweep(
            'points, true regions',
            'plrc_coco_400e_truth',
            POINTS + 'regions.kind',
            {'mask': (), 'box': ()},
        ),
        Sweep('points, n of the grid', 'plrc_coco_400e', POINTS + 'regions.n', {4: (), 2: ()}),
        Sweep(
            'pooled, true regions',
            'regioncontrast_coco_400e_truth',
            POINTS + 'regions.kind',
            {'mask': (), 'box': ()},
        ),
        Sweep(
            'pooled, n of the grid',
            'regioncontrast_coco_400e',
            POINTS + 'regions.n',
            {4: (), 2: ()},
        ),
    ],
}


def train_command(name: str, sweep: Sweep, value) -> str:
    """One row."""
    options = ' '.join(f'{k}={v}' for k, v in {**sweep.fixed, sweep.setting: value}.items())
    leaf = sweep.setting.rpartition('.')[2]
    return (
        f'mim train plrc_plugin configs/ablations/{sweep.config}.py --work-dir '
        f'work_dirs/ablations/{name}/{sweep.config}_{leaf}_{value} --cfg-options {options}'
    )


def search_command(name: str, sweep: Sweep) -> str:
    """All rows of a sweep, one after the other."""
    values = {**{k: [v] for k, v in sweep.fixed.items()}, sweep.setting: sweep.rows}
    search = ' '.join(f'--{k} {" ".join(map(str, v))}' for k, v in values.items())
    return (
        f'mim gridsearch plrc_plugin configs/ablations/{sweep.config}.py --work-dir '
        f"work_dirs/ablations/{name}/{sweep.config} --search-args '{search}'"
    )


def main():
    """Prints the tables asked for."""
    parser = argparse.ArgumentParser(description="Print the paper's ablations and their commands")
    parser.add_argument(
        'tables', nargs='*', metavar='TABLE', help=f'of {", ".join(SWEEPS)}; all by default'
    )
    tables = parser.parse_args().tables or list(SWEEPS)
    if unknown := set(tables) - set(SWEEPS):
        parser.error(f'{", ".join(sorted(unknown))}: choose from {", ".join(SWEEPS)}')
    for name in tables:
        for sweep in SWEEPS[name]:
            print(f'\n{"Tab." if name[1:] else "Fig."} {name}: {sweep.title}')
            for value, published in sweep.rows.items():
                numbers = ' / '.join(map(str, published)) or 'in the figure only'
                print(f'  {value}: VOC AP {numbers}\n    {train_command(name, sweep, value)}')
            print(f'  all:\n    {search_command(name, sweep)}')


if __name__ == '__main__':
    main()
