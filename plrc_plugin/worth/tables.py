"""Turns results over seeds into rows, and rows into Markdown, CSV and bars."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple, Optional

from plrc_plugin.worth.runs import COLUMNS


class Row(NamedTuple):
    """A metric of a checkpoint in a setting: its mean over seeds, the sample standard deviation
    (None for one seed), and the values."""

    config: str
    checkpoint: str
    metric: str
    mean: float
    spread: Optional[float]
    values: list[float]


def summarise(results: Mapping[tuple[str, str], Sequence[dict]]) -> list[Row]:
    """Turns ``{(config, checkpoint): [metrics per seed]}`` into rows."""
    return [
        Row(
            config,
            checkpoint,
            metric,
            mean(values),
            stdev(values) if len(values) > 1 else None,
            values,
        )
        for (config, checkpoint), runs in results.items()
        for metric in runs[0]
        for values in [[run[metric] for run in runs]]
    ]


def number(value: float, spread: Optional[float]) -> str:
    """Returns '12.34 ± 0.56'."""
    return f'{value:.2f}' + (f' ± {spread:.2f}' if spread is not None else '')


def write_markdown(
    rows: Sequence[Row], path: Path, pictures: Sequence[tuple[str, Path]] = ()
) -> None:
    """Writes one table per config, with a row for each checkpoint, and then pictures of the
    runs."""
    lines = []
    for config in dict.fromkeys(row.config for row in rows):
        mine = [row for row in rows if row.config == config]
        metrics = list(dict.fromkeys(row.metric for row in mine))
        seeds = len(mine[0].values)
        known = set(metrics) <= {column for column, _ in COLUMNS.values()}
        unit = 'in percent' if known else 'as logged'
        lines += [
            f'## {config}',
            '',
            f'Mean ± standard deviation over {seeds} seeds, {unit}.'
            if seeds > 1
            else f'One seed, {unit}.',
            '',
            '| checkpoint | ' + ' | '.join(metrics) + ' |',
            '|---' * (len(metrics) + 1) + '|',
        ]
        for checkpoint in dict.fromkeys(row.checkpoint for row in mine):
            cells = [number(row.mean, row.spread) for row in mine if row.checkpoint == checkpoint]
            lines.append(f'| {checkpoint} | ' + ' | '.join(cells) + ' |')
        lines.append('')
    for title, picture in pictures:
        lines += [f'{title} (truth left, prediction right):', '', f'![{title}]({picture})', '']
    path.write_text('\n'.join(lines))


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Writes all rows, with the value of each seed."""
    with open(path, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['config', 'checkpoint', 'metric', 'mean', 'std', 'values'])
        for *key, average, spread, values in rows:
            writer.writerow(
                [*key, average, '' if spread is None else spread, ' '.join(map(str, values))]
            )


def draw_bars(rows: Sequence[Row], path: Path) -> None:
    """Draws one panel per config: its first metric, with a bar for each checkpoint."""
    from matplotlib.figure import Figure

    configs = list(dict.fromkeys(row.config for row in rows))
    figure = Figure(figsize=(4.5 * len(configs), 4))
    axes = figure.subplots(1, len(configs), squeeze=False)
    for axis, config in zip(axes[0], configs):
        metric = next(row.metric for row in rows if row.config == config)
        bars = [row for row in rows if row.config == config and row.metric == metric]
        spreads = [float('nan') if row.spread is None else row.spread for row in bars]
        drawn = axis.bar(
            [row.checkpoint for row in bars], [row.mean for row in bars], yerr=spreads, capsize=4
        )
        axis.bar_label(drawn, [number(row.mean, row.spread) for row in bars])
        axis.set_title(config, fontsize=9)
        axis.set_ylabel(metric)
        axis.margins(y=0.15)
        axis.tick_params(axis='x', rotation=20)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
