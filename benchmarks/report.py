"""What the benchmarks share: photographs, interleaved timing, and pages of Markdown."""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Callable, NamedTuple, Optional

import cv2
import torch
from matplotlib.figure import Figure

from plrc_plugin.datasets.scenes.writing import make_scenes

ROOT = Path(__file__).resolve().parents[1]
PAGES = Path(os.environ.get('PLRC_BENCH_PAGES', ROOT / 'docs' / 'benchmarks'))


class Cost(NamedTuple):
    """Seconds by the clock, and of this process on a core."""

    wall: float
    cpu: float


def arguments(description: str, rounds: int) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument(
        '--photos',
        type=Path,
        default=os.environ.get('PLRC_BENCH_PHOTOS'),
        help='folder of photographs (default: scenes that are generated)',
    )
    parser.add_argument('--rounds', type=int, default=rounds)
    return parser


def photos(folder: Path) -> str:
    """The folder, or one of generated scenes."""
    if folder is not None:
        return str(folder)
    scenes = ROOT / 'data' / 'bench_scenes'
    make_scenes(str(scenes), num_train=200, num_val=1)
    return str(scenes / 'train')


def cost_of(function: Callable[[], object]) -> Cost:
    """What one call costs."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def interleaved(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[Cost]]:
    """Costs of ``rounds`` calls of each case, taken in turns after one that warms up: what else the
    machine does in a round meets all of them."""
    for function in cases.values():
        function()
    costs = {name: [] for name in cases}
    for _ in range(rounds):
        for name, function in cases.items():
            costs[name].append(cost_of(function))
    return costs


def columns_median(rows: Sequence[Sequence[float]]) -> list[float]:
    """Of each column."""
    return [statistics.median(column) for column in zip(*rows)]


def median(costs: Sequence[Cost]) -> Cost:
    """Of each column."""
    return Cost(*columns_median(costs))


def paired_ratio(costs: Sequence[Cost], others: Sequence[Cost]) -> Cost:
    """Median over the rounds of the ratio within a round."""
    return median([Cost(a.wall / b.wall, a.cpu / b.cpu) for a, b in zip(costs, others)])


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Markdown; numbers with three figures."""

    def cell(value):
        return f'{value:.3g}' if isinstance(value, float) else str(value)

    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join('| ' + ' | '.join(map(cell, line)) + ' |' for line in lines)


def save(figure: Figure, name: str, alt: str) -> str:
    """Writes a picture beside the pages, and returns the Markdown that shows it."""
    PAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(PAGES / f'{name}.png', dpi=80)
    return f'![{alt}]({name}.png)'


def bars(name: str, values: dict[str, float], axis: str, target: Optional[float] = None) -> str:
    """A picture of horizontal bars, the target a dashed line."""
    figure = Figure(figsize=(7, 0.6 + 0.35 * len(values)), layout='constrained')
    axes = figure.add_subplot()
    drawn = axes.barh(list(values), list(values.values()), height=0.6)
    axes.bar_label(drawn, fmt='%.3g', padding=3)
    if target is not None:
        axes.axvline(target, color='black', linestyle='--', label=f'target {target:g}')
        axes.legend(fontsize=8, loc='lower right', bbox_to_anchor=(1, 1))
    axes.margins(x=0.1)
    axes.invert_yaxis()
    axes.set_xlabel(axis)
    return save(figure, name, axis)


def machine() -> str:
    """One line: processor, cores, threads, versions, load."""
    with open('/proc/cpuinfo') as file:
        model = next(
            (line.split(':')[1].strip() for line in file if line.startswith('model name')),
            platform.processor(),
        )
    return (
        f'{model}, {os.cpu_count()} cores, {torch.get_num_threads()} threads of torch '
        f'(OMP_NUM_THREADS={os.environ.get("OMP_NUM_THREADS", "unset")}), '
        f'torch {torch.__version__}, OpenCV {cv2.__version__}, '
        f'Python {platform.python_version()}, '
        f'load average {os.getloadavg()[0]:.1f} at the end'
    )


def write(name: str, title: str, *sections: str) -> None:
    """Writes ``<name>.md``, with command and machine, and prints it.

    It goes to ``docs/benchmarks``, or where the variable ``PLRC_BENCH_PAGES`` says."""
    arguments = ' '.join(['photographs' if Path(a).is_dir() else a for a in sys.argv[1:]])
    text = (
        '\n\n'.join(
            [
                f'# {title}',
                f'`python benchmarks/{name}.py {arguments}`'.replace(' `', '`'),
                *sections,
                machine(),
            ]
        )
        + '\n'
    )
    PAGES.mkdir(parents=True, exist_ok=True)
    (PAGES / f'{name}.md').write_text(text)
    print(text)
