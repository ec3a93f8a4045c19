"""Makes one page about a run, or about several beside each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

import numpy as np
from matplotlib.ticker import MaxNLocator
from mmengine.config import Config
from tqdm import tqdm

from plrc_plugin.checkpoints.encoder import load_encoder
from plrc_plugin.checkpoints.work_dir import headings
from plrc_plugin.images.decoding import read_image
from plrc_plugin.visualization.affinity import affinity_gallery
from plrc_plugin.visualization.curves import Curves, is_term
from plrc_plugin.visualization.images import read_images, spaced, training_images
from plrc_plugin.visualization.meanings import meaning
from plrc_plugin.visualization.pages import figure_address, jpeg_address, write_page
from plrc_plugin.visualization.run import Run, read_runs
from plrc_plugin.visualization.turning_point import TurningPoint, turning_points
from plrc_plugin.visualization.verdict import verdict

COUNTERS = ('epoch', 'iter', 'step', 'time', 'memory')  # of the log; no curves
IMAGES = 4  # of the affinity pictures
CHECKPOINTS = 7  # of the affinity pictures, beside the start
PICTURES = 16  # of one name that hooks wrote
LEAST_SPAN = 0.2  # least span of an axis, as a share of its greatest value
# Settings that say where and how a run was started, not what it does.
NOISE = (
    'work_dir',
    'experiment_name',
    'launcher',
    'resume',
    'load_from',
    'overwrite',
    'visualizer',
)


def all_curves(run: Run) -> Curves:
    """Returns every curve of a run: losses, metrics, other logged numbers, throughput."""
    logged = {name: curve for name, curve in run.scalars.items() if name not in COUNTERS}
    losses = {name: logged[name] for name in logged if is_term(name)}
    return {**losses, **run.metrics, **logged, 'images per second': run.throughput}


def curve_panels(runs: Sequence[Run]) -> tuple[list[dict], dict[str, float]]:
    """Returns what the page draws.

    Returns:
        tuple[list[dict], dict[str, float]]: per curve its name, its meaning, per run its (step,
        value), the values that its axis shows and the steps where quality turned down; and the
        curves left out, as every value of every run is the same, with that value.
    """
    curves = [all_curves(run) for run in runs]
    evaluators = [probe for run in runs for probe in _evaluators(run.cfg)]
    panels, constant = [], {}
    for name in dict.fromkeys(name for of_run in curves for name in of_run):
        lines = [of_run.get(name, []) for of_run in curves]
        values = [value for line in lines for _, value in line]
        if not values:
            continue
        if len(set(values)) == 1 and len(values) > 1:
            constant[name] = values[0]
            continue
        panels.append(
            dict(
                name=name,
                meaning=meaning(name, evaluators),
                lines=lines,
                ticks=ticks(values),
                turns=[turn.step for run in runs for turn in turns_of(run) if turn.metric == name],
            )
        )
    return panels, constant


def turns_of(run: Run) -> list[TurningPoint]:
    """Returns where the quality of a run turned down while its loss kept falling."""
    return turning_points(run.metrics, run.scalars['loss'])


def ticks(values: Sequence[float]) -> list[float]:
    """Returns round values for an axis. The first and the last are its ends, at least
    ``LEAST_SPAN`` of the greatest value apart. If no value is negative, the axis is not either."""
    finite = [value for value in values if np.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    missing = LEAST_SPAN * max(abs(low), abs(high)) - (high - low)
    if missing > 0:
        low, high = low - missing / 2, high + missing / 2
    found = np.asarray(MaxNLocator(3, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))
    if min(finite) >= 0:
        found = found[found >= 0]
    return [float(f'{value:.10g}') for value in found]


def summarise(runs: Sequence[Run]) -> list[dict]:
    """Returns rows of the table: the name of a curve, and for each run its last, least and greatest
    value."""
    curves = [all_curves(run) for run in runs]
    rows = []
    for name in dict.fromkeys(name for of_run in curves for name in of_run):
        values = [[value for _, value in of_run.get(name, [])] for of_run in curves]
        rows.append(
            dict(
                name=name,
                cells=[
                    dict(last=v[-1], least=min(v), greatest=max(v)) if v else None for v in values
                ],
            )
        )
    return rows


def differing_settings(configs: Sequence[Config]) -> dict[str, list]:
    """Returns the settings that differ between configs, by dotted name; None if a config lacks one.

    Where a run was started from does not count as a setting. None is the same as leaving a setting
    out.
    """
    flat = [_flatten({k: v for k, v in c.to_dict().items() if k not in NOISE}) for c in configs]
    names = dict.fromkeys(name for settings in flat for name in settings)
    found = {name: [settings.get(name) for settings in flat] for name in names}
    return {
        name: values
        for name, values in found.items()
        if any(value != values[0] for value in values)
    }


def _flatten(value, prefix: str = '') -> dict[str, object]:
    """Returns the leaves of a config by name. Items of a list are named by their type if all types
    differ, so that a further item does not change the names of those after it."""
    if not isinstance(value, (dict, list, tuple)) or not value:
        return {prefix: value}
    if isinstance(value, dict):
        items = list(value.items())
    else:
        kinds = [child.get('type') if isinstance(child, dict) else None for child in value]
        known = None not in kinds and len(set(map(str, kinds))) == len(kinds)
        items = list(zip(kinds if known else range(len(value)), value))
    return {
        name: leaf
        for key, child in items
        for name, leaf in _flatten(child, f'{prefix}.{key}' if prefix else str(key)).items()
    }


def affinity_over_time(run: Run, images: Sequence[np.ndarray]) -> list[tuple[str, str]]:
    """Returns (label, picture) of the affinities of the images' centres, for the untrained network
    and the kept checkpoints.

    Raises:
        SettingsError: if a checkpoint holds no encoder.
    """
    files = ['random', *map(str, spaced(run.checkpoints, CHECKPOINTS))]
    labels = ['start', *(name.replace('_', ' ') for name in headings(files)[1:])]
    points = [(0.5, 0.5)] * len(images)
    steps = []
    told = tqdm(files, f'maps of {run.name}', delay=3, mininterval=1, leave=False)
    for file, label in zip(told, labels):
        model = load_encoder(run.cfg, file)
        figure = affinity_gallery(images, points, [model], [label], size=448)
        steps.append((label, figure_address(figure, 'jpeg')))
    return steps


def write_report(
    path: Path, work_dirs: Sequence[Path], images: Union[str, Path, None] = None
) -> None:
    """Writes the page.

    Args:
        path (Path): the HTML file.
        work_dirs (Sequence[Path]): work dirs of the runs.
        images (str | Path, optional): folder, shards or address of images for the affinity
            pictures. Defaults to those that a hook drew during the run, or else to some images that
            each run trains on, where they still are.

    Raises:
        SettingsError: if a work dir holds no scalars or config, a checkpoint no encoder, an image
            is too small, or the file cannot be written.
    """
    runs = read_runs(work_dirs)
    given = [image for _, image in read_images(images, IMAGES)] if images else None
    panels, constant = curve_panels(runs)
    write_page(
        path,
        'report.html',
        runs=runs,
        verdicts=[verdict(run) for run in runs],
        panels=panels,
        constant=constant,
        rows=summarise(runs),
        pictures=[_pictures(run, given) for run in runs],
        turns=[turns_of(run) for run in runs],
        differences=differing_settings([run.cfg for run in runs]),
    )


def _pictures(run: Run, given: Optional[Sequence[np.ndarray]]) -> tuple[list[dict], str]:
    """Returns pictures over time, each with its steps; and why there are no affinities, or ''."""
    unit = 'epoch' if 'epoch' in run.scalars else 'step'
    series = [
        dict(
            name=name,
            steps=[
                (f'{unit} {step}', jpeg_address(read_image(file), 1200))
                for step, file in spaced(files, PICTURES)
            ],
        )
        for name, files in run.pictures.items()
        if given is None or name != 'affinity'
    ]
    if any(picture['name'] == 'affinity' for picture in series):
        return series, ''
    if not run.checkpoints:
        return series, 'No checkpoint is kept in the work dir.'
    images = given
    if images is None:
        images = [image for _, image in training_images(run.cfg, IMAGES)]
    if not images:
        return series, 'The images of the run are not here: give others with --images.'
    return [dict(name='affinity', steps=affinity_over_time(run, images)), *series], ''


def _evaluators(cfg: Config) -> list[dict]:
    given = cfg.get('val_evaluator') or []
    return list(given) if isinstance(given, (list, tuple)) else [given]
