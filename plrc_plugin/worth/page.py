"""Writes the page of a comparison, its table and its numbers."""

import json
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure

from plrc_plugin.version import __version__
from plrc_plugin.visualization.pages import figure_address, write_page
from plrc_plugin.worth.comparison import Difference, Values, differences, paragraph
from plrc_plugin.worth.frozen import KNN, LINEAR
from plrc_plugin.worth.ledger import FINETUNED, FROZEN, PRETRAIN, Done, Ledger, Part
from plrc_plugin.worth.methods import START, title
from plrc_plugin.worth.planning import duration, plan_table
from plrc_plugin.worth.tables import number, summarise, write_csv, write_markdown


class Facts(NamedTuple):
    """The facts on the page beside the numbers: what was asked for, the labels and their split, how
    many photographs are test images, and the plan."""

    asked: Any
    labels: Any
    split: Any
    shared: int
    plan: Any
    work: Any
    methods: Sequence[str]
    kinds: Sequence[str]


Numbers = Mapping[tuple[str, str], Mapping[int, dict[str, float]]]  # (column, method) -> seed


def column(kind: str, percent: str) -> str:
    """Returns 'frozen, 10%' or 'fine-tuned, 10%'."""
    return f'{"frozen" if kind == FROZEN else "fine-tuned"}, {percent}%'


def by_column(done: Sequence[Done], percents: Sequence[float]) -> Numbers:
    """Returns all numbers, the frozen ones first, by rising percentage."""
    found: dict[tuple[str, str], dict[int, dict]] = {}
    for kind in (FROZEN, FINETUNED):
        for percent in (f'{p:g}' for p in sorted(percents)):
            for each in done:
                part = each.part
                if part.kind != kind:
                    continue
                if kind == FROZEN:
                    numbers = each.numbers.get(percent)
                else:
                    numbers = each.numbers if f'{part.percent:g}' == percent else None
                if numbers:
                    of_column = found.setdefault((column(kind, percent), part.method), {})
                    of_column[part.seed] = numbers
    return found


# The numbers of a frozen trunk that are compared. The two probes may disagree, which one alone
# would hide.
_SUFFIXES = {LINEAR: ', linear', KNN: ', k-NN'}


def compared(numbers: Numbers) -> Values:
    """Returns the numbers to compare: both probes of a frozen trunk, and the first metric of a
    fine-tuned one."""
    values: dict[str, dict[str, dict[int, float]]] = {}
    for (name, method), seeds in numbers.items():
        for seed, of_seed in seeds.items():
            metrics = [m for m in _SUFFIXES if m in of_seed] or [next(iter(of_seed))]
            for metric in metrics:
                of_column = values.setdefault(name + _SUFFIXES.get(metric, ''), {})
                of_column.setdefault(method, {})[seed] = of_seed[metric]
    return values


def pairs(methods: Sequence[str]) -> list[tuple[str, str]]:
    """Returns the pairs to compare: each method with the start, and PLRC with each other method."""
    others = [m for m in methods if m != 'plrc'] if 'plrc' in methods else []
    return [*((m, START) for m in methods), *(('plrc', m) for m in others)]


def write_results(
    out: Path,
    facts: Facts,
    done: Sequence[Done],
    left_out: Sequence[Part],
    parts: Sequence[Part],
    ledger: Ledger,
) -> None:
    """Writes ``page.html``, ``table.md``, ``table.csv`` and ``results.json``."""
    numbers = by_column(done, facts.asked.percents)
    values = compared(numbers)
    found = differences(values, pairs(facts.methods))
    names = [START, *facts.methods]
    said = paragraph(found, START, {name: title(name) for name in names})
    results: dict[tuple[str, str], list[dict]] = {
        key: list(seeds.values()) for key, seeds in numbers.items()
    }
    rows = summarise(results)
    write_markdown(rows, out / 'table.md')
    with open(out / 'table.md', 'a') as file:
        file.write(f'{said}\n')
    write_csv(rows, out / 'table.csv')
    content = dict(
        differences=[{**d._asdict(), 'verdict': d.verdict} for d in found],
        paragraph=said,
        seconds=ledger.seconds(),
        parts=[{**d.part._asdict(), 'numbers': d.numbers, 'seconds': d.seconds} for d in done],
    )
    (out / 'results.json').write_text(json.dumps(content, indent=1))
    measured = {c: _metric(numbers, c) for c in values}
    write_page(
        out / 'page.html',
        'worth.html',
        facts=facts,
        paragraph=said,
        columns=list(values),
        measured=measured,
        rows=[(title(n), [_cell(values[c].get(n)) for c in values]) for n in names],
        panels=[
            (f'{c}: {measured[c]}', figure_address(_panel(of_column, names), 'svg+xml'))
            for c, of_column in values.items()
        ],
        differences=[(title(d.method), title(d.other), d, *_interval(d)) for d in found],
        every=rows,
        titles={name: title(name) for name in names},
        number=number,
        costs=_costs(done, names),
        spent=duration(ledger.seconds()),
        seeds=sorted({d.part.seed for d in done}),
        finished=len(done),
        all=len(parts),
        left_out=[part.name for part in left_out],
        plan=plan_table(facts.asked.hours, facts.work, facts.plan),
        checkpoints=_checkpoints(out, done),
        detectors=_detectors(out, done),
        command=_command(),
        environment=_environment(),
    )


def _metric(numbers: Numbers, name: str) -> str:
    """Returns the metric in a column of :func:`compared`."""
    for metric, suffix in _SUFFIXES.items():
        if name.endswith(suffix):
            return metric
    of_column = next(seeds for (c, _), seeds in numbers.items() if c == name)
    return next(iter(next(iter(of_column.values()))))


def _cell(seeds: Any) -> str:
    if not seeds:
        return ''
    (row,) = summarise({('', ''): [dict(value=v) for v in seeds.values()]})
    return number(row.mean, row.spread)


def _interval(found: Difference) -> tuple[str, str]:
    if found.interval is None:
        return '', found.verdict
    low, high = found.interval
    return f'{low:+.2f} to {high:+.2f}', found.verdict


def _panel(of_column: Mapping[str, Mapping[int, float]], names: Sequence[str]) -> Figure:
    """Draws a dot for each seed, lines between the dots of a seed, and a bar at the mean."""
    figure = Figure(figsize=(4.2, 2.9), layout='constrained')
    axes = figure.subplots()
    shown = [name for name in names if of_column.get(name)]
    for seed in sorted({seed for name in shown for seed in of_column[name]}):
        points = [(i, of_column[n][seed]) for i, n in enumerate(shown) if seed in of_column[n]]
        axes.plot(*zip(*points), color='0.75', linewidth=0.8, zorder=1)
    for i, name in enumerate(shown):
        values = list(of_column[name].values())
        axes.scatter([i] * len(values), values, color=f'C{i}', s=26, zorder=3)
        axes.hlines(mean(values), i - 0.25, i + 0.25, color=f'C{i}', linewidth=2, zorder=2)
    axes.set_xticks(range(len(shown)), shown)
    axes.margins(x=0.12, y=0.15)
    axes.grid(axis='y', alpha=0.3)
    return figure


def _costs(done: Sequence[Done], names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Returns for each method the time of its pre-training, of its probes and of its fine-tunings,
    for each part."""
    rows = []
    for name in names:
        cells = []
        for kind in (PRETRAIN, FROZEN, FINETUNED):
            seconds = [d.seconds for d in done if d.part.kind == kind and d.part.method == name]
            each = duration(mean(seconds)) if seconds else ''
            cells.append(f'{len(seconds)} × {each}' if seconds else '')
        rows.append((title(name), cells))
    return rows


def _checkpoints(out: Path, done: Sequence[Done]) -> list[str]:
    found = [d.numbers['checkpoint'] for d in done if d.part.kind == PRETRAIN]
    return [_short(out, Path(path)) for path in found]


def _detectors(out: Path, done: Sequence[Done]) -> list[str]:
    folders = [
        out / FINETUNED / d.part.method / '100' / f'seed{d.part.seed}'
        for d in done
        if d.part.kind == FINETUNED and d.part.percent == 100
    ]
    return [_short(out, file) for folder in folders for file in sorted(folder.glob('iter_*.pth'))]


def _short(out: Path, path: Path) -> str:
    return str(path.relative_to(out)) if path.is_relative_to(out) else str(path)


def _command() -> str:
    return 'python -m plrc_plugin worth ' + ' '.join(map(shlex.quote, sys.argv[2:]))


def _environment() -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'
    return (
        f'plrc_plugin {__version__}, torch {torch.__version__}, Python '
        f'{platform.python_version()}, {device}, {torch.get_num_threads()} threads'
    )
