"""Curves of a pre-training run, from the scalars that mmengine's visualizer wrote."""

import json
import warnings
from pathlib import Path
from typing import Callable, Optional

from matplotlib.figure import Figure

from plrc_plugin.errors import SettingsError

PANELS = (
    ('losses', dict(loss='total', l_m='L_m, image', l_c='L_c, point-region', l_a='L_a, affinity')),
    ('collapse?', dict(top1='top-1 in the queue', std='std of embeddings (1 = spread)')),
)


Curves = dict[str, list[tuple[int, float]]]


def read_scalars(work_dir: Path) -> Curves:
    """(step, value) of every scalar, over all runs of a work dir; the latest run of a step counts.

    Raises:
        SettingsError: if the folder holds no scalars, or damaged ones.
    """
    curves = _read(work_dir, lambda entry: 'loss' in entry)
    if not curves:
        raise SettingsError(
            f'{work_dir} holds no <time>/vis_data/scalars.json with losses: give '
            'the work dir of a run that has logged'
        )
    return curves


def read_metrics(work_dir: Path) -> Curves:
    """Likewise of validation, empty without; mmengine's step is the epoch there, unless configured
    otherwise."""
    curves = _read(work_dir, lambda entry: 'loss' not in entry)
    return {
        name: curve for name, curve in curves.items() if name not in ('step', 'time', 'data_time')
    }


def _read(work_dir: Path, wanted: Callable[[dict], bool]) -> Curves:
    steps: dict[int, dict] = {}
    for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        steps.update({entry['step']: entry for entry in _entries(file) if wanted(entry)})
    curves: Curves = {}
    for step in sorted(steps):
        for name, value in steps[step].items():
            curves.setdefault(name, []).append((step, value))
    return curves


def _entries(file: Path) -> list[dict]:
    """The lines of a file. A kill, or a read while it is written, can cut its last line short: then
    that line is left out, with a warning."""
    lines = file.read_text().splitlines()
    entries = [_entry(line) for line in lines]
    if entries and entries[-1] is None:
        warnings.warn(f'{file}: the last line is cut short and left out', stacklevel=2)
        entries.pop()
    if None in entries:
        raise SettingsError(f'{file}: line {entries.index(None) + 1} is damaged: remove it')
    return [entry for entry in entries if entry is not None]


def _entry(line: str) -> Optional[dict]:
    """A line of a log; None if it is damaged."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None


def plot_curves(work_dir: Path) -> Figure:
    """Losses on one panel, indicators of a collapse on the other."""
    scalars = read_scalars(work_dir)
    figure = Figure(figsize=(11, 4), layout='constrained')
    for axes, (title, names) in zip(figure.subplots(1, 2), PANELS):
        for name, label in names.items():
            if name in scalars:
                axes.plot(*zip(*scalars[name]), label=label, linewidth=2 if name == 'loss' else 1.2)
        axes.set(title=title, xlabel='iteration')
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure
