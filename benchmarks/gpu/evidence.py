"""Does it learn, at a scale that a GPU makes possible? Runs in pieces, and their probes."""

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import NamedTuple, Optional

from .photographs import photograph_folder, unpacked
from .pieces import ROOT, TIME_IS_OVER, Report, Setting, how_it_ended, python

METHODS = {
    'PLRC': 'plrc_in1k',
    'MoCo v2': 'mocov2_in1k',
    'region-level contrast': 'regioncontrast_in1k',
}
# Shown of the probes' numbers, where they are there.
SHOWN = ('linear_seg/mIoU', 'knn_seg/mIoU', 'affinity/auc', 'affinity/auc_same_offset')


class Row(NamedTuple):
    """A run: what it learns by, and from which weights (None: random ones)."""

    method: str
    weights: Optional[Path]

    @property
    def name(self) -> str:
        return f'{METHODS[self.method]}-{"continued" if self.weights else "scratch"}'


def rows_of(setting: Setting) -> list[Row]:
    methods = setting.sized(list(METHODS), ['PLRC'])
    starts = [None, setting.weights] if setting.weights else [None]
    return [Row(method, start) for start in starts for method in methods]


def check_evidence(setting: Setting) -> Report:
    """ResNet-50 from random weights on views of 160 pixels, PLRC beside MoCo v2 and region-level
    contrast, the same photographs, steps and schedule; with `--weights`, an EfficientNet-Lite0 that
    continues from them. A run is ended with its piece and goes on with the next. Each is probed
    when it is over, beside the weights that it started from, with a frozen trunk."""
    report = Report()
    rows = report.table('Probes of the frozen trunk', ['run', 'iterations', *SHOWN])
    deadline = time.monotonic() + setting.seconds - 10
    for row in rows_of(setting):
        folder = setting.work / 'evidence' / row.name
        found = read_probes(folder)
        if found is None and report.finished:
            problem = advance(row, folder, setting, deadline)
            if problem:
                report.verify(f'{row.name}: it trains and is probed', False, problem)
                continue
            found = read_probes(folder)
        if found is None:
            report.finished = False
            rows.append([row.name, iterations_done(folder), *['-'] * len(SHOWN)])
            continue
        for when, numbers in found.items():
            label = f'{row.name}, {"end" if when == "end" else "its start"}'
            done = iterations_done(folder) if when == 'end' else 0
            rows.append([label, done, *(numbers.get(name, '-') for name in SHOWN)])
    return report


def advance(row: Row, folder: Path, setting: Setting, deadline: float) -> str:
    """Trains and probes until the deadline; what went wrong, '' if nothing or the time was over."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f'evidence_{row.name.replace("-", "_")}.py'
    file.write_text(config_text(row, setting))
    run = folder / 'run'
    if not (folder / 'trained').exists():
        options = ['--work-dir', run, '--resume']
        done = python('tools/train.py', file, *options, seconds=max(1, deadline - time.monotonic()))
        (folder / 'train.log').write_text(done.stdout)
        if done.returncode == TIME_IS_OVER:  # the next piece resumes
            return ''
        if done.returncode:
            return what_went_wrong(done)
        (folder / 'trained').touch()
    return probe(row, file, run, folder, setting, deadline)


def probe(row, file, run, folder, setting, deadline) -> str:
    newest = (run / 'last_checkpoint').read_text().strip()
    start = str(row.weights) if row.weights else 'random'
    if setting.voc:
        data = ['--data', 'voc', '--root', unpacked(setting.voc)]
    else:
        photograph_folder(setting)
        scenes = setting.work / 'scenes'
        if not scenes.is_dir():
            return 'photographs were given and VOC2012 was not: add --voc'
        data = ['--data', 'scenes', '--root', scenes]
    small = ['--max-images', 4, '--size', 32, '--cells', 4, '--probes', 'KNNSegmentationProbe']
    out = folder / 'probed.json'
    done = python(
        'tools/probe.py', file, '--checkpoints', start, newest, *data, '--out', out,
        *setting.sized([], small), seconds=max(1, deadline - time.monotonic()),
    )  # fmt: skip
    (folder / 'probe.log').write_text(done.stdout)
    if done.returncode:
        return '' if done.returncode == TIME_IS_OVER else what_went_wrong(done)
    results = json.loads(out.read_text())['results']
    (folder / 'probes.json').write_text(
        json.dumps(dict(start=results[start], end=results[newest]), indent=1)
    )
    return ''


def what_went_wrong(done: subprocess.CompletedProcess) -> str:
    """How a program ended, and the last that it said."""
    return (
        f'{how_it_ended(done.returncode)}; its last words: {done.stdout[-600:].strip() or "none"}'
    )


def config_text(row: Row, setting: Setting) -> str:
    """The config of a run: that of the paper, at this scale."""
    size, epochs, batch = setting.sized((160, 100, 128), (32, 1, 4))
    workers = setting.sized(min(16, os.cpu_count() or 1), 0)
    if row.weights:
        trunk = dict(type='plrc_plugin.TimmTrunk', name='tf_efficientnet_lite0', output_stride=16)
    else:
        small = dict(depth=18, base_channels=8, strides=(1, 2, 2, 1))
        trunk = dict(type='plrc_plugin.ResNet', **setting.sized(dict(depth=50), small))
    model = dict(
        backbone=dict(_delete_=True, **trunk),
        queue_size=setting.sized(2048, 64),
        momentum=0.99,
        mask_own_keys=True,
        data_preprocessor=dict(type='plrc_plugin.ViewsPreprocessor', channels_last=True),
    )
    if row.method == 'PLRC':
        model['warmup_epochs'] = setting.sized(15, 0)
    base = ROOT / 'configs' / f'{METHODS[row.method]}.py'
    return f"""_base_ = {str(base)!r}
pretrained = {str(row.weights) if row.weights else None!r}
model = {model!r}
_pipeline = _base_.train_dataloader.dataset.pipeline
_pipeline[0].update(size={size}, where='device')
if len(_pipeline) > 1:
    _pipeline[1].update(resolution={size // 4})
train_dataloader = dict(
    batch_size={batch}, num_workers={workers}, persistent_workers={workers > 0},
    pin_memory={setting.device == 'cuda'},
    dataset=dict(data_root={str(photograph_folder(setting))!r}, pipeline=_pipeline))
optim_wrapper = dict(
    type='plrc_plugin.MixedPrecisionOptimWrapper',
    optimizer=dict(lr={0.003 if row.weights else 0.015}))
train_cfg = dict(max_epochs={epochs})
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval={setting.sized(200, 50)}, max_keep_ckpts=1))
visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
"""


def read_probes(folder: Path) -> Optional[dict]:
    path = folder / 'probes.json'
    return json.loads(path.read_text()) if path.exists() else None


def iterations_done(folder: Path) -> int:
    """Of the newest checkpoint."""
    newest = folder / 'run' / 'last_checkpoint'
    found = re.search(r'iter_(\d+)', newest.read_text()) if newest.exists() else None
    return int(found[1]) if found else 0
