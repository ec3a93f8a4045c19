"""Refresh the tables and plots of the study's page from its logs and probe results.

    python studies/photographs/page.py

Text between ``<!-- NAME -->`` and ``<!-- end -->`` in README.md is replaced; the rest is prose.
"""

import csv
import json
import re
from pathlib import Path
from statistics import mean, stdev

from matplotlib.figure import Figure

METHODS = {
    'random': 'random weights',
    'mocov2': 'MoCo v2',
    'region': 'region-level contrast',
    'plrc_without_la': 'PLRC without L_a',
    'plrc_half': 'PLRC without L_a, L_c at .35',
    'plrc': 'PLRC',
}
# Compared after VARIATION_EPOCHS, where the runs of the short configs end.
VARIATIONS = {
    'plrc': 'PLRC: P = 8, β = .7, L_a from epoch 3, 4 x 4 grid',
    'mocov2': 'MoCo v2',
    'plrc_late': 'L_a from epoch 5',
    'plrc_half': 'no L_a, L_c at .35',
    'plrc_without_la': 'no L_a, L_c at .7',
    'plrc_beta3': 'β = .3',
    'plrc_p1': 'P = 1',
    'plrc_one_region': 'one region, the image',
    'plrc_segments': 'segments for regions',
}
VARIATION_EPOCHS = 6
# Result of tools/probe.py -> (heading, digits, factor).
MEASURES = {
    'linear_seg/mIoU': ('linear mIoU', 2, 1),
    'knn_seg/mIoU': ('k-NN mIoU', 2, 1),
    'affinity/auc': ('AUC', 3, 1),
    'affinity/auc_boundary': ('AUC near borders', 3, 1),
    'affinity/auc_same_offset': ('AUC, same offset', 3, 1),
    'affinity/iou': ('IoU', 3, 1),
    'affinity/iou_boundary': ('IoU near borders', 3, 1),
    'classify/knn': ('k-NN class.', 1, 1),
}
IMAGES_PER_EPOCH = 156 * 32


def read_probes(folder: Path) -> list:
    """(method, seed, images seen, numbers, file name) of every checkpoint in probes/*.json.

    Checkpoints are ``runs/<method>/seed<k>/epoch_<n>.pth``, or ``random``.
    """
    rows = []
    for file in sorted(folder.glob('*.json')):
        for checkpoint, numbers in json.loads(file.read_text())['results'].items():
            if checkpoint == 'random':
                rows.append(('random', 0, 0, numbers, file.name))
                continue
            method, seed, epoch = re.fullmatch(
                r'runs/(\w+)/seed(\d+)/epoch_(\d+)\.pth', checkpoint
            ).groups()
            rows.append((method, int(seed), int(epoch) * IMAGES_PER_EPOCH, numbers, file.name))
    return rows


def final(rows: list, method: str) -> list:
    """The rows of a method after the most images, one per seed."""
    found = [row for row in rows if row[0] == method]
    most = max((row[2] for row in found), default=0)
    return [row for row in found if row[2] == most]


def of_variations(rows: list) -> dict:
    """The rows after VARIATION_EPOCHS by the label of their variation, one per seed."""
    images = VARIATION_EPOCHS * IMAGES_PER_EPOCH
    found = {
        label: [row for row in rows if row[0] == method and row[2] == images]
        for method, label in VARIATIONS.items()
    }
    return {label: of_label for label, of_label in found.items() if of_label}


def mean_and_spread(values: list, digits: int) -> str:
    """'mean ± standard deviation' where there are several values."""
    text = f'{mean(values):.{digits}f}'
    return f'{text} ± {stdev(values):.{digits}f}' if len(values) > 1 else text


def probe_table(groups: dict, folder: str = '') -> str:
    """A line per label of ``groups``, {label: rows, one per seed}, a column per measure, and where
    the numbers stand."""
    heads = [heading for heading, _, _ in MEASURES.values()]
    lines = [
        '| | seeds | ' + ' | '.join(heads) + ' | from |',
        '|---|---|' + '---|' * (len(heads) + 1),
    ]
    for label, rows in groups.items():
        cells = [
            mean_and_spread([row[3][name] * factor for row in rows], digits)
            for name, (_, digits, factor) in MEASURES.items()
        ]
        files = ', '.join(f'[{row[4]}](probes/{folder}{row[4]})' for row in rows)
        lines.append(f'| {label} | {len(rows)} | ' + ' | '.join(cells) + f' | {files} |')
    return '\n'.join(lines)


def of_methods(rows: list) -> dict:
    """The last rows by the label of their method."""
    return {label: final(rows, method) for method, label in METHODS.items() if final(rows, method)}


def gain_table(rows: list) -> str:
    """Gains over random weights, MoCo v2's being 1, by the means over the seeds, in the measures in
    which MoCo v2 gains."""
    average = {
        m: {n: mean(row[3][n] for row in final(rows, m)) for n in MEASURES}
        for m in METHODS
        if final(rows, m)
    }
    names = [n for n in MEASURES if average['mocov2'][n] > average['random'][n]]
    lines = [
        '| | ' + ' | '.join(MEASURES[n][0] for n in names) + ' |',
        '|---|' + '---|' * len(names),
    ]
    for method in average:
        if method != 'random':
            gains = [
                (average[method][n] - average['random'][n])
                / (average['mocov2'][n] - average['random'][n])
                for n in names
            ]
            lines.append(f'| {METHODS[method]} | ' + ' | '.join(f'{g:.2f}' for g in gains) + ' |')
    return '\n'.join(lines)


def read_scalars(file: Path) -> list:
    """The logged iterations of a run."""
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    return [entry for entry in entries if 'loss' in entry]


def run_table(folder: Path) -> str:
    """A line per run: what it ended with, and how fast it was."""
    lines = [
        '| run | config | images | images/s | L_m | L_c | L_a | top-1 | std |',
        '|---|---|---|---|---|---|---|---|---|',
    ]
    for file in sorted(folder.glob('*.json')):
        last = read_scalars(file)[-1]
        seconds = mean(entry['time'] for entry in read_scalars(file))
        terms = ' | '.join(
            f'{last[name]:.3f}' if name in last else ''
            for name in ('l_m', 'l_c', 'l_a', 'top1', 'std')
        )
        config = f'study_{file.stem.split("-")[0]}'
        lines.append(
            f'| [{file.stem}](runs/{file.name}) | '
            f'[{config}](configs/{config}.py) | '
            f'{last["epoch"] * IMAGES_PER_EPOCH:,} | {32 / seconds:.0f} | {terms} |'
        )
    return '\n'.join(lines)


def transfer_table(file: Path) -> str:
    """The rows that tools/transfer_table.py wrote."""
    with file.open() as lines:
        head, *rows = csv.reader(lines)
    rows = [[*labels, f'{float(average):.2f}', spread] for *labels, average, spread in rows]
    return '\n'.join('| ' + ' | '.join(row) + ' |' for row in (head, ['---'] * len(head), *rows))


def plot_probes(rows: list) -> Figure:
    """Measures over the images seen, a curve per run of a whole method."""
    shown = ('linear_seg/mIoU', 'affinity/auc', 'affinity/iou', 'affinity/iou_boundary')
    figure = Figure(figsize=(15, 3.8), layout='constrained')
    for axes, name in zip(figure.subplots(1, len(shown)), shown):
        for number, (method, label) in enumerate(METHODS.items()):
            seeds = sorted({row[1] for row in rows if row[0] == method})
            for seed in seeds:
                curve = sorted((row[2], row[3][name]) for row in rows if row[:2] == (method, seed))
                if method == 'random':
                    axes.axhline(curve[0][1], color='grey', linestyle=':', label=label)
                    continue
                first = seed == seeds[0]
                axes.plot(
                    *zip(*curve),
                    color=f'C{number}',
                    alpha=1 if first else 0.4,
                    marker='.',
                    label=label if first else None,
                )
        axes.set(title=MEASURES[name][0], xlabel='images seen')
        axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    return figure


def plot_variations(groups: dict) -> Figure:
    """Each variation's numbers as dots, a dot per seed; the band is PLRC's range."""
    shown = ('linear_seg/mIoU', 'knn_seg/mIoU', 'affinity/auc', 'affinity/auc_same_offset')
    figure = Figure(figsize=(15, 0.6 + 0.4 * len(groups)), layout='constrained')
    for axes, name in zip(figure.subplots(1, len(shown), sharey=True), shown):
        for row, found in enumerate(groups.values()):
            values = [numbers[name] for _, _, _, numbers, _ in found]
            axes.plot(values, [row] * len(values), 'o', color='C0' if row == 0 else 'C1')
            if row == 0:
                axes.axvspan(min(values), max(values), alpha=0.15)
        axes.set(title=MEASURES[name][0], yticks=range(len(groups)), yticklabels=groups)
        axes.grid(alpha=0.3)
    axes.invert_yaxis()
    return figure


def plot_losses(folder: Path) -> Figure:
    """L_m, L_c, L_a and top-1 of the first seed of each method."""
    figure = Figure(figsize=(15, 3.8), layout='constrained')
    for axes, name in zip(figure.subplots(1, 4), ('l_m', 'l_c', 'l_a', 'top1')):
        for number, (method, label) in enumerate(METHODS.items()):
            files = sorted(folder.glob(f'{method}-seed*.json'))[:1]
            curve = [
                (e['step'] * 32, e[name]) for file in files for e in read_scalars(file) if name in e
            ]
            if curve:
                axes.plot(*zip(*curve), color=f'C{number}', label=label)
        axes.set(title=name, xlabel='images seen')
        axes.grid(alpha=0.3)
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def refresh(page: str, blocks: dict) -> str:
    """The page with the text between ``<!-- NAME -->`` and ``<!-- end -->`` replaced."""
    for name, text in blocks.items():
        page, count = re.subn(
            rf'(<!-- {name} -->\n).*?(<!-- end -->)',
            lambda match, text=text: f'{match[1]}{text}\n{match[2]}',
            page,
            flags=re.S,
        )
        if count != 1:
            raise SystemExit(
                f'README.md must have one block <!-- {name} --> ... <!-- end -->, found {count}'
            )
    return page


def blocks(folder: Path) -> dict:
    """The tables of the page by the names of their blocks."""
    rows = read_probes(folder / 'probes')
    projected = of_methods(read_probes(folder / 'probes' / 'projected'))
    found = dict(
        probes=probe_table(of_methods(rows)),
        gains=gain_table(rows),
        variations=probe_table(of_variations(rows)),
        runs=run_table(folder / 'runs'),
        projected=probe_table(projected, 'projected/'),
    )
    for file in sorted((folder / 'transfer').glob('*.csv')):
        found[f'transfer {file.stem}'] = transfer_table(file)
    return found


def main():
    """Writes README.md, probes.png, variations.png and losses.png."""
    folder = Path(__file__).parent
    page = folder / 'README.md'
    page.write_text(refresh(page.read_text(), blocks(folder)))
    rows = read_probes(folder / 'probes')
    plot_probes(rows).savefig(folder / 'probes.png', dpi=80)
    plot_variations(of_variations(rows)).savefig(folder / 'variations.png', dpi=80)
    plot_losses(folder / 'runs').savefig(folder / 'losses.png', dpi=80)


if __name__ == '__main__':
    main()
