"""Reads what a pre-training run left in its work dir."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Optional

from mmengine.config import Config

from plrc_plugin.checkpoints.work_dir import BEST, told_apart
from plrc_plugin.errors import SettingsError
from plrc_plugin.visualization.curves import Curves, read_metrics, read_scalars

PROBE_RESULTS = 'probes.json'  # that tools/probe.py leaves in a work dir
ENVIRONMENT = re.compile(r'^-{20,}\n(System environment:.*?)\n-{20,}$', re.S | re.M)


SAID = {  # by the run in its log, see engine/overview.py; of several the last counts
    'images': re.compile(r'^  images +(\d+)$', re.M),
    'device': re.compile(r'^  device +(.+?)(?:, \d+ loader workers.*)?$', re.M),
    'processes': re.compile(r' in each of (\d+) processes', re.M),
    'planned': re.compile(r'^  length +(?:.*: )?(\d+) iterations$', re.M),
    'finished': re.compile(r'finished: epoch \d+, iteration (\d+);'),
    'saved': re.compile(r'Saving checkpoint at (\d+) iterations'),
}
STAMP = re.compile(r'^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) - mmengine', re.M)


@dataclass
class Run:
    """A run.

    Attributes:
        name: name of its folder, with as many folders above it as are needed to tell several runs
            apart.
        work_dir: the folder.
        cfg: the config with which it was last started.
        config: the same as text.
        scalars: numbers of training over iterations, with those that only the log shows.
        metrics: those of validation, over iterations.
        throughput: images per second over iterations, all processes together.
        environment: the head of the log.
        checkpoints: the checkpoints kept, oldest first.
        best: the checkpoint that ``save_best`` kept, if any.
        pictures: those that visualisation hooks wrote, by name, each with its steps and files in
            order.
        probes: numbers of ``tools/probe.py`` by checkpoint, from ``probes.json`` of the work dir.
        iterations: number of iterations done.
        planned: number of iterations planned; None if the log does not say.
        finished: whether all of them were done.
        images: number of images in the data set; None if the log does not say.
        device: the device and the number of processes, as text. began, ended: times of the first
            and last line of the logs; None without a log.
        seconds: how long it was at work, over all its starts.
    """

    name: str
    work_dir: Path
    cfg: Config
    config: str
    scalars: Curves
    metrics: Curves
    throughput: list[tuple[int, float]]
    environment: str
    checkpoints: list[Path]
    best: Optional[Path]
    pictures: dict[str, list[tuple[int, Path]]]
    probes: dict[str, dict[str, float]]
    iterations: int
    planned: Optional[int]
    finished: bool
    images: Optional[int]
    device: str
    began: Optional[datetime]
    ended: Optional[datetime]
    seconds: float


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
    times = [[datetime.strptime(s, '%Y/%m/%d %H:%M:%S') for s in STAMP.findall(x)] for x in logs]
    spans = [(stamps[0], stamps[-1]) for stamps in times if stamps]
    said = {name: _last(pattern, logs) for name, pattern in SAID.items()}
    number = {name: int(value) for name, value in said.items() if value and value.isdigit()}
    # The logger waits for the end of its interval, so that more was done than it showed.
    done = [scalars['step'][-1][1], number.get('saved', 0), number.get('finished', 0)]
    device = said['device'] or 'not in the log'
    best = sorted(work_dir.glob(f'{BEST}*.pth'), key=lambda path: path.stat().st_mtime)
    return Run(
        name=work_dir.resolve().name,
        work_dir=work_dir,
        cfg=cfg,
        config=configs[-1].read_text(encoding='utf-8'),
        scalars=scalars,
        metrics=_over_iterations(cfg, scalars, work_dir),
        throughput=_throughput(cfg, scalars, environment),
        environment=environment,
        checkpoints=sorted(
            [*work_dir.glob('epoch_*.pth'), *work_dir.glob('iter_*.pth')], key=_number
        ),
        best=best[-1] if best else None,
        pictures=_pictures(work_dir),
        probes=_probes(work_dir / PROBE_RESULTS),
        iterations=int(max(done)),
        planned=number.get('planned'),
        finished='planned' in number and max(done) >= number['planned'],
        images=number.get('images'),
        device=f'{number["processes"]} x {device}' if 'processes' in number else device,
        began=spans[0][0] if spans else None,
        ended=spans[-1][1] if spans else None,
        seconds=sum((end - start).total_seconds() for start, end in spans),
    )


def _last(pattern: re.Pattern, logs: Sequence[str]) -> Optional[str]:
    """Returns the last match of a pattern. For a resumed run this is the one in the latest log."""
    found = [match for log in logs for match in pattern.findall(log)]
    return found[-1] if found else None


def _pictures(work_dir: Path) -> dict[str, list[tuple[int, Path]]]:
    pictures: dict[str, dict[int, Path]] = {}
    for path in sorted(work_dir.glob('*/vis_data/vis_image/*.png')):
        name = path.stem.rpartition('_')[0]
        pictures.setdefault(name, {})[_number(path)] = path  # for a resumed run, the latest
    return {name: sorted(files.items()) for name, files in sorted(pictures.items())}


def _probes(file: Path) -> dict[str, dict[str, float]]:
    if not file.is_file():
        return {}
    try:
        return json.loads(file.read_text())['results']
    except (ValueError, KeyError) as error:
        raise SettingsError(
            f'{file} is not what tools/probe.py writes: move it elsewhere'
        ) from error


def read_runs(work_dirs: Sequence[Path]) -> list[Run]:
    """Reads several work dirs and gives them different names.

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
    """Returns the number at the end of a file's name."""
    return int(path.stem[len(path.stem.rstrip('0123456789')) :] or 0)


def _over_iterations(cfg: Config, scalars: Curves, work_dir: Path) -> Curves:
    """Returns metrics of validation over iterations. An epoch becomes the last iteration logged up
    to its end."""
    metrics = read_metrics(work_dir)
    if not cfg.get('default_hooks', {}).get('logger', {}).get('log_metric_by_epoch', True):
        return metrics
    last = {0: 0, **{epoch: step for step, epoch in scalars.get('epoch', [])}}
    return {
        name: [(last[max(e for e in last if e <= epoch)], value) for epoch, value in curve]
        for name, curve in metrics.items()
    }


def _throughput(cfg: Config, scalars: Curves, environment: str) -> list[tuple[int, float]]:
    """Returns images per second of all processes; mmengine logs the seconds of an iteration of
    one."""
    processes = re.search(r'GPU number: (\d+)', environment)
    images = cfg.train_dataloader.batch_size * int(processes[1] if processes else 1)
    return [(step, images / seconds) for step, seconds in scalars.get('time', [])]
