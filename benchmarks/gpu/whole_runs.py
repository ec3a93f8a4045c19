"""Whole runs of the plug-in's runner: twice, killed and resumed, and over several processes."""

import shutil
import sys
from pathlib import Path

import torch

from .pieces import ROOT, Report, Setting

sys.path.insert(0, str(ROOT / 'tests' / 'helpers'))
import runs  # tiny runs in processes of their own, which may be killed

MIXED = {'optim_wrapper.type': 'plrc_plugin.MixedPrecisionOptimWrapper'}
KINDS = {
    'float32': {},
    'bfloat16': {**MIXED, 'optim_wrapper.dtype': 'bfloat16'},
    'float16': {**MIXED, 'optim_wrapper.dtype': 'float16', 'optim_wrapper.loss_scale': 1024.0},
}
# Relative difference of the losses of the first step. On a GPU convolutions of another batch are
# other algorithms, of TF32.
OF_PROCESSES = dict(gloo=1e-4, nccl=5e-3)


def check_runs_twice(setting: Setting) -> Report:
    """A run of PLRC in the plug-in's runner, with `randomness.deterministic=True` and
    `env_cfg.cudnn_benchmark=False`: once more from the start, and once killed by `kill -9` and
    resumed. Every loss of every iteration, and weights, queue, optimiser and schedules at the end,
    are the same bits."""
    report = Report()
    place = emptied(setting.work / 'twice')
    images = runs.make_images(place / 'images', *setting.sized((128, 256), (16, 60)))
    for kind in setting.sized(list(KINDS), ['bfloat16']):
        options = {**KINDS[kind], 'randomness.deterministic': True}
        cfg = config(setting, images, place / kind / 'whole', **options)
        problem = runs.finish(runs.start(cfg))
        report.verify(f'{kind}: a run', not problem, problem)
        for name in ('again', 'killed'):
            cfg = config(setting, images, place / kind / name, **options)
            if name == 'killed':
                cfg.custom_hooks.append(dict(type='DieOnceHook', rank=0, iteration=6))
                died = runs.finish(runs.start(cfg))
                report.verify(f'{kind}: it is killed', died == 'killed', died)
                cfg.resume = True
            problem = problem or runs.finish(runs.start(cfg))
            problem = problem or difference(place / kind / name, place / kind / 'whole')
            what = 'once more' if name == 'again' else 'killed and resumed'
            report.verify(f'{kind}: {what}', not problem, problem or 'the same bits')
            problem = ''
    return report


def check_processes(setting: Setting) -> Report:
    """The same images by one process and by several. With batch statistics fixed and
    `negatives='ranks'` the losses are those of one process. NCCL takes as many processes as there
    are GPUs; gloo, beside it, two processes on the CPU."""
    report = Report()
    rows = report.table('Losses of the first iteration', ['backend', 'processes', 'loss'])
    place = emptied(setting.work / 'processes')
    images = runs.make_images(place / 'images', *setting.sized((64, 128), (16, 60)))
    options = {'model.negatives': 'ranks', 'train_cfg.max_epochs': 1}
    gpus = torch.cuda.device_count()  # by NVML: the processes below are the ones that use them
    groups = [('gloo', 2, True)] + ([('nccl', gpus, False)] if setting.device == 'cuda' else [])
    for backend, size, on_cpu in groups:
        hidden = dict(CUDA_VISIBLE_DEVICES='') if on_cpu else {}
        losses, batch = {}, 8
        for processes in sorted({1, size}):
            name = f'{backend}-{processes}'
            cfg = config(setting, images, place / name, tiny=on_cpu, **options)
            cfg.train_dataloader.batch_size = batch * size // processes
            cfg.custom_hooks.append(dict(type='FixedStatisticsHook'))
            cfg.env_cfg.dist_cfg.backend = backend
            problems = runs.run_processes(cfg, processes, **hidden)
            report.verify(f'{backend}, {processes} processes', not any(problems), str(problems))
            if not any(problems):
                losses[processes] = first_losses(place / name, processes)
        if len(losses) == 2:
            error = max(abs(losses[size][t] - x) / max(abs(x), 0.1) for t, x in losses[1].items())
            report.at_most(f'{backend}: losses of {size} processes', error, OF_PROCESSES[backend])
        for processes, terms in losses.items():
            rows.append([backend, processes, terms['loss']])
    if setting.device != 'cuda':
        report.needs_cuda('NCCL')
    elif gpus < 2:
        report.checks.append(
            dict(name='NCCL: losses of several', ok=None, found='needs two GPUs; there is one')
        )
    return report


def config(setting: Setting, images: Path, work_dir: Path, tiny: bool = False, **options):
    """PLRC of the paper on a GPU, eight iterations; the tests' tiny run for a small check."""
    full = {
        'model.backbone.depth': 50,
        'model.backbone.base_channels': 64,
        'model.backbone.strides': (1, 2, 2, 2),
        'model.queue_size': 4096,
        'train_dataloader.dataset.pipeline.0.size': 224,
        'train_dataloader.dataset.pipeline.1.num_regions': 16,
        'train_dataloader.dataset.pipeline.1.points_per_region': 16,
        'train_dataloader.dataset.pipeline.1.resolution': 56,
        'train_dataloader.batch_size': 32,
        'train_dataloader.num_workers': 4,
        'train_dataloader.pin_memory': True,
    }
    sizes = {} if tiny else setting.sized(full, {'model.backbone.base_channels': 8})
    options = {'model.warmup_epochs': 0, 'default_hooks.checkpoint.interval': 1, **sizes, **options}
    return runs.tiny_config(images, work_dir, **options)


def first_losses(work_dir: Path, processes: int) -> dict[str, float]:
    """Logged at the first iteration: means over the processes."""
    (line,) = set(runs.records(work_dir)[0])
    return {name: x for name, x in runs.terms(line).items() if name.startswith(('loss', 'l_'))}


def difference(work_dir: Path, whole: Path) -> str:
    """Where a run is not the other one, '' if it is to the bit."""
    try:
        runs.assert_same_run(work_dir, whole)
    except AssertionError as error:
        return f'differs: {" ".join(str(error).split())[:200]}'
    return ''


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
