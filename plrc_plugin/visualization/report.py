"""One page about a run, or about several beside each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

import numpy as np
from matplotlib.figure import Figure
from mmengine.config import Config

from plrc_plugin.checkpoints.encoder import load_encoder
from plrc_plugin.datasets.unread_images import UnreadImages
from plrc_plugin.errors import SettingsError
from plrc_plugin.images.decoding import DecodingError, open_image, read_image
from plrc_plugin.visualization.affinity import affinity_gallery
from plrc_plugin.visualization.curves import Curves, is_term
from plrc_plugin.visualization.images import read_images
from plrc_plugin.visualization.pages import figure_address, jpeg_address, write_page
from plrc_plugin.visualization.run import Run, read_runs

COUNTERS = ('epoch', 'iter', 'step', 'time', 'memory')  # of the log; no curves
IMAGES = 4  # of the gallery
CHECKPOINTS = 4  # of the gallery, beside the start
PICTURES = 12  # of those that hooks wrote
COLUMNS = 3


def all_curves(run: Run) -> Curves:
    """Every curve that the page draws: losses, metrics, what else was logged, throughput."""
    logged = {name: curve for name, curve in run.scalars.items() if name not in COUNTERS}
    losses = {name: logged[name] for name in logged if is_term(name)}
    return {**losses, **run.metrics, **logged, 'images per second': run.throughput}


def draw_curves(runs: Sequence[Run], names: Sequence[str]) -> Figure:
    """One panel per curve, one line per run."""
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(4 * COLUMNS, 2.4 * rows + 0.4), layout='constrained')
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes, name in zip(panels, names):
        for i, run in enumerate(runs):
            points = all_curves(run).get(name, [])
            axes.plot(
                [step for step, _ in points],
                [value for _, value in points],
                color=f'C{i}',
                label=run.name,
                marker='.' if len(points) == 1 else None,
            )
        axes.set_title(name, fontsize=10)
        axes.grid(alpha=0.3)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    if len(runs) > 1:
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc='outside upper left', ncols=4, frameon=False)
    return figure


def summarise(runs: Sequence[Run]) -> list[dict]:
    """Rows of the table: name of a curve, and per run its last, least and greatest value."""
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
    """Settings that are not the same in all configs, by dotted name; None where there is none."""
    flat = [_flatten(cfg.to_dict()) for cfg in configs]
    names = dict.fromkeys(name for settings in flat for name in settings)
    found = {name: [settings.get(name) for settings in flat] for name in names}
    return {
        name: values
        for name, values in found.items()
        if any(value != values[0] for value in values)
    }


def _flatten(value, prefix: str = '') -> dict[str, object]:
    if not isinstance(value, (dict, list, tuple)) or not value:
        return {prefix: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {
        name: leaf
        for key, child in items
        for name, leaf in _flatten(child, f'{prefix}.{key}' if prefix else str(key)).items()
    }


def spaced(items: Sequence, count: int) -> list:
    """At most ``count`` of them, evenly spaced, first and last included."""
    keep = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))
    return [items[i] for i in keep]


def training_images(cfg: Config) -> list[np.ndarray]:
    """Some of the images that a run trains on; none where they are gone."""
    try:
        data = UnreadImages(cfg.train_dataloader.dataset)
        return [open_image(data[i]).decode() for i in spaced(range(len(data)), IMAGES)]
    except (SettingsError, DecodingError, OSError):
        return []


def gallery_over_time(run: Run, images: Sequence[np.ndarray]) -> Figure:
    """Affinities of the images' centres, at the start of training and by the checkpoints kept.

    Raises:
        SettingsError: if a checkpoint holds no encoder.
    """
    checkpoints = spaced(run.checkpoints, CHECKPOINTS)
    models = [load_encoder(run.cfg, str(c)) for c in ['random', *checkpoints]]
    labels = ['start', *(c.stem.replace('_', ' ') for c in checkpoints)]
    return affinity_gallery(images, [(0.5, 0.5)] * len(images), models, labels, size=448)


def write_report(
    path: Path, work_dirs: Sequence[Path], images: Union[str, Path, None] = None
) -> None:
    """Writes the page.

    Args:
        path (Path): the HTML file.
        work_dirs (Sequence[Path]): of the runs.
        images (str | Path, optional): folder, shards or address of images for the galleries.
            Defaults to some of those that each run trains on, where they still are.

    Raises:
        SettingsError: if a work dir holds no scalars or config, a checkpoint no encoder, an image
            is too small, or the file cannot be written.
    """
    runs = read_runs(work_dirs)
    given = [image for _, image in read_images(images, IMAGES)] if images else None
    rows = summarise(runs)
    write_page(
        path,
        'report.html',
        runs=runs,
        rows=rows,
        curves=figure_address(draw_curves(runs, [row['name'] for row in rows]), 'svg+xml'),
        galleries=[_gallery(run, given) for run in runs],
        pictures=[
            [(p.stem, jpeg_address(read_image(p), 1000)) for p in spaced(run.pictures, PICTURES)]
            for run in runs
        ],
        differences=differing_settings([run.cfg for run in runs]),
    )


def _gallery(run: Run, given: Optional[Sequence[np.ndarray]]) -> tuple[Optional[str], str]:
    """A picture, or None and the reason."""
    if not run.checkpoints:
        return None, 'No checkpoint is kept in the work dir.'
    images = training_images(run.cfg) if given is None else given
    if not images:
        return None, 'The images of the run are not here: give others with --images.'
    return figure_address(gallery_over_time(run, images), 'png'), ''
