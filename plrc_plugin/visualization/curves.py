"""Draws curves of a pre-training run from the scalars that mmengine's visualizer wrote."""

import json
import warnings
from pathlib import Path
from typing import Callable, Optional

from matplotlib.figure import Figure

from plrc_plugin.errors import SettingsError

# Numbers that training logs beside those of the model. They do not show how it learns.
_MACHINERY = {'epoch', 'iter', 'step', 'time', 'data_time', 'memory', 'lr', 'base_lr', 'grad_norm'}
# Plainer words for names of the package. Other curves have the name in the log.
_LABELS = dict(
    loss='total',
    l_m='L_m, image',
    l_c='L_c, point-region',
    l_a='L_a, affinity',
    top1='top-1 in the queue',
    std='std of embeddings (1 = spread)',
)
_COLUMNS = 3


Curves = dict[str, list[tuple[int, float]]]


def read_scalars(work_dir: Path) -> Curves:
    """Returns (step, value) of every scalar, over all runs of a work dir. For each step the latest
    run counts.

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
    """Returns the same for metrics of validation, empty without one. mmengine's step is then the
    epoch, unless configured otherwise."""
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
    """Returns the lines of a file. The last line may be cut short by a kill, or because the file is
    still being written. It is then left out, with a warning."""
    lines = file.read_text().splitlines()
    entries = [_entry(line) for line in lines]
    if entries and entries[-1] is None:
        warnings.warn(f'{file}: the last line is cut short and left out', stacklevel=2)
        entries.pop()
    if None in entries:
        raise SettingsError(f'{file}: line {entries.index(None) + 1} is damaged: remove it')
    return [entry for entry in entries if entry is not None]


def _entry(line: str) -> Optional[dict]:
    """Reads a line of a log; returns None if it is damaged."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None


def is_term(name: str) -> bool:
    """Whether a scalar is the loss or a term of it, by its name, which follows the same rule in all
    models."""
    return name.startswith(('loss', 'l_'))


def plot_curves(work_dir: Path) -> Figure:
    """Draws the loss and its terms on one panel, and each other number of the model on its own
    panel, because these have no common scale."""
    scalars = read_scalars(work_dir)
    indicators = [name for name in scalars if not is_term(name) and name not in _MACHINERY]
    panels = [[name for name in scalars if is_term(name)], *([name] for name in indicators)]
    rows = -(-len(panels) // _COLUMNS)
    figure = Figure(figsize=(4.5 * _COLUMNS, 3.2 * rows), layout='constrained')
    grid = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes, names in zip(grid, panels):
        for name in names:
            width = 2 if name == 'loss' else 1.2
            axes.plot(*zip(*scalars[name]), label=_LABELS.get(name, name), linewidth=width)
        axes.set(xlabel='iteration')
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    return figure
