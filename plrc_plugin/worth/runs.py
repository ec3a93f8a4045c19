"""Starts or resumes one training by ``tools/train.py``, or reads it from its folder if it is
finished."""

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from plrc_plugin.errors import SettingsError

SETTINGS, METRICS, OUTPUT = 'settings.json', 'metrics.json', 'output.txt'
BOOKKEEPING = ('step', 'epoch', 'iter', 'time', 'data_time', 'memory')
# Metrics that papers report, in percent: metric -> (column, factor). The first one found is drawn.
COLUMNS = {
    'voc/AP': ('VOC AP', 1),
    'voc/AP50': ('VOC AP50', 1),
    'voc/AP75': ('VOC AP75', 1),
    'coco/bbox_mAP': ('box AP', 100),
    'coco/bbox_mAP_50': ('box AP50', 100),
    'coco/bbox_mAP_75': ('box AP75', 100),
    'coco/segm_mAP': ('mask AP', 100),
    'coco/segm_mAP_50': ('mask AP50', 100),
    'coco/segm_mAP_75': ('mask AP75', 100),
    'mIoU': ('mIoU', 1),
}


def check_settings(folder: Path, settings: dict) -> None:
    """Records the settings with which the run in a folder was begun.

    Raises:
        SettingsError: if it was begun with other settings.
    """
    record = folder / SETTINGS
    if record.is_file() and json.loads(record.read_text()) != settings:
        raise SettingsError(
            f'{folder} holds a run with other settings; remove it, or give another --work-dir'
        )
    folder.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(settings))


def train_command(
    train: Path, config: str, folder: Path, options: Sequence[str], gpus: int
) -> list:
    """Returns the command of a run on ``gpus`` processes, which continues what is in its folder."""
    start = [sys.executable]
    if gpus > 1:
        start += ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={gpus}']
    command = [*start, str(train), config, '--work-dir', str(folder), '--resume']
    if gpus > 1:
        command += ['--launcher', 'pytorch']
    return command + (['--cfg-options', *options] if options else [])


def run_command(command: Sequence[str], folder: Path, one_thread: bool = False) -> None:
    """Runs a command whose output goes to ``output.txt``. It ends when this process ends.

    Args:
        command: the command.
        folder: folder of the output.
        one_thread: whether to use one thread, if several runs share the cores. Otherwise threads
            wait for each other, which was measured to be 5 times slower.

    Raises:
        SettingsError: if it fails, with the end of its output.
    """
    env = {**({'OMP_NUM_THREADS': '1'} if one_thread else {}), **os.environ}
    with open(folder / OUTPUT, 'a') as output:
        print('+', ' '.join(map(str, command)), file=output, flush=True)
        # Linux ties a child to the thread that started it, which is one of a pool with one_thread.
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            preexec_fn=_end_with_parent if sys.platform == 'linux' and not one_thread else None,
        )
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if code:
        tail = (folder / OUTPUT).read_text(errors='replace').splitlines()[-5:]
        raise SettingsError('\n'.join([f'a run failed, see {folder / OUTPUT}', *tail]))


def _end_with_parent() -> None:
    """Makes Linux end the child with SIGTERM when its parent is gone, however that ended."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def is_metric(name: str, value: Any) -> bool:
    """Whether an entry of a log is a metric. Counters of mmengine and texts of mmdet are not."""
    return name not in BOOKKEEPING and isinstance(value, (int, float))


def last_metrics(folder: Path) -> dict[str, float]:
    """Returns the metrics of the last evaluation that a run logged: those of :data:`COLUMNS`, or,
    if the evaluator gives none of them, all that it gives, under their own names.

    Raises:
        SettingsError: if it logged none.
    """
    logs = sorted(folder.glob('*/vis_data/scalars.json')) or sorted(
        folder.glob('*/vis_data/*.json')
    )
    lines = [_entry(line) for log in logs for line in log.read_text().splitlines()]
    evaluated = [
        {name: value for name, value in line.items() if is_metric(name, value)}
        for line in lines
        if line is not None and 'loss' not in line
    ]
    found = [line for line in evaluated if line]
    if not found and _found_no_object(folder):
        return {
            column: 0.0 for name, (column, _) in COLUMNS.items() if name.startswith('coco/bbox')
        }
    if not found:
        raise SettingsError(
            f'{folder} logged no evaluation. If it was cut off in its last one, remove the folder '
            'to train again'
        )
    known = {
        COLUMNS[name][0]: value * COLUMNS[name][1]
        for name, value in found[-1].items()
        if name in COLUMNS
    }
    return known or found[-1]


def _found_no_object(folder: Path) -> bool:
    """Whether the last log line says that the detector found no box in any image, for which mmdet
    gives no number."""
    logs = sorted(folder.glob('*/*.log'))
    return bool(logs) and 'testing results of the whole dataset is empty' in logs[-1].read_text()


def _entry(line: str) -> Optional[dict]:
    """Reads a line of a log; returns None if a kill cut it short."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None


def trained(
    train: Path,
    config: str,
    folder: Path,
    settings: dict,
    options: Sequence[str],
    gpus: int = 1,
    one_thread: bool = False,
    shown: bool = False,
) -> dict[str, float]:
    """Returns the metrics of one fine-tuning, from an earlier call, or from training or resuming it
    now.

    Args:
        train: ``tools/train.py``.
        config: the config.
        folder: the work dir.
        settings: settings that must not have changed since the run was begun.
        options: what ``--cfg-options`` takes.
        gpus, one_thread: as for :func:`train_command` and :func:`run_command`.
        shown: whether to print the command.

    Raises:
        SettingsError: if the folder holds another run, or the run fails.
    """
    result = folder / METRICS
    check_settings(folder, settings)
    if not result.is_file():
        command = train_command(train, config, folder, options, gpus)
        if shown:
            print('+', ' '.join(command), flush=True)
        run_command(command, folder, one_thread)
        result.write_text(json.dumps(last_metrics(folder)))
    return json.loads(result.read_text())
