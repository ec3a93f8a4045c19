"""What a pre-training run left in its work dir."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from plrc_plugin.checkpoints.work_dir import told_apart
from plrc_plugin.errors import SettingsError
from plrc_plugin.visualization.curves import Curves, read_metrics, read_scalars

ENVIRONMENT = re.compile(r'^-{20,}\n(System environment:.*?)\n-{20,}$', re.S | re.M)


@dataclass
class Run:
    """A run.

    Attributes:
        name: the folder's; of several runs, with as many folders above it as tell them apart.
        cfg: with which it was last started.
        config: the same as text.
        scalars: of training, over iterations; read-outs of the log among them.
        metrics: of validation, over iterations.
        throughput: images per second over iterations, all processes together.
        environment: head of the log.
        checkpoints: those kept, oldest first.
        pictures: that visualisation hooks wrote, by name and step.
    """

    name: str
    cfg: Config
    config: str
    scalars: Curves
    metrics: Curves
    throughput: list[tuple[int, float]]
    environment: str
    checkpoints: list[Path]
    pictures: list[Path]


def read_run(work_dir: Path) -> Run:
    """Reads a work dir.

    Raises:
        SettingsError: if it holds no scalars or no config.
    """
    scalars = read_scalars(work_dir)
    configs = sorted(work_dir.glob('*/vis_data/config.py'))
    if not configs:
        raise SettingsError(
            f'{work_dir} holds no <time>/vis_data/config.py: give the work dir of '
            'a run, as mmengine left it'
        )
    cfg = Config.fromfile(configs[-1])
    logs = [log.read_text(encoding='utf-8') for log in sorted(work_dir.glob('*/*.log'))]
    found = ENVIRONMENT.search(logs[-1]) if logs else None
    environment = found[1] if found else 'not in the log'
    return Run(
        name=work_dir.resolve().name,
        cfg=cfg,
        config=configs[-1].read_text(encoding='utf-8'),
        scalars=scalars,
        metrics=_over_iterations(cfg, scalars, work_dir),
        throughput=_throughput(cfg, scalars, environment),
        environment=environment,
        checkpoints=sorted(
            [*work_dir.glob('epoch_*.pth'), *work_dir.glob('iter_*.pth')], key=_number
        ),
        pictures=sorted(
            work_dir.glob('*/vis_data/vis_image/*.png'),
            key=lambda path: (path.stem.rpartition('_')[0], _number(path)),
        ),
    )


def read_runs(work_dirs: Sequence[Path]) -> list[Run]:
    """Reads several work dirs, whose names then differ.

    Raises:
        SettingsError: as ``read_run``, or if a work dir is given twice.
    """
    places = [Path(work_dir).resolve() for work_dir in work_dirs]
    for i, work_dir in enumerate(work_dirs):
        if places[i] in places[:i]:
            raise SettingsError(f'{work_dir} is given twice: name each work dir once')
    runs = [read_run(Path(work_dir)) for work_dir in work_dirs]
    for run, name in zip(runs, told_apart([str(place) for place in places])):
        run.name = name
    return runs


def _number(path: Path) -> int:
    """The number at the end of a file's name."""
    return int(path.stem[len(path.stem.rstrip('0123456789')) :] or 0)


def _over_iterations(cfg: Config, scalars: Curves, work_dir: Path) -> Curves:
    """Metrics of validation; epochs become the last iteration logged up to their end."""
    metrics = read_metrics(work_dir)
    if not cfg.get('default_hooks', {}).get('logger', {}).get('log_metric_by_epoch', True):
        return metrics
    last = {0: 0, **{epoch: step for step, epoch in scalars.get('epoch', [])}}
    return {
        name: [(last[max(e for e in last if e <= epoch)], value) for epoch, value in curve]
        for name, curve in metrics.items()
    }


def _throughput(cfg: Config, scalars: Curves, environment: str) -> list[tuple[int, float]]:
    """Images per second: mmengine logs the seconds of an iteration, of one process."""
    processes = re.search(r'GPU number: (\d+)', environment)
    images = cfg.train_dataloader.batch_size * int(processes[1] if processes else 1)
    return [(step, images / seconds) for step, seconds in scalars.get('time', [])]
