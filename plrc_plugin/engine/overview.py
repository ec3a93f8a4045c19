"""Prints what a run is about before its first iteration, and what it made after its last."""

import os.path as osp
import time
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import CheckpointHook
from mmengine.runner import IterBasedTrainLoop

from plrc_plugin.checkpoints.claim import folders_of
from plrc_plugin.checkpoints.work_dir import POINTER
from plrc_plugin.images.survey import describe, survey
from plrc_plugin.wrapped_models import bare_model

LOOKED_AT = 32  # images whose headers are read before a run


def first_screen(runner) -> str:
    """Describes how long the run is, what it uses, and where its results go."""
    loop, loader, model = runner.train_loop, runner.train_dataloader, bare_model(runner.model)
    processes, batch = get_world_size(), loader.batch_size
    lines = [f'images      {len(loader.dataset)}']
    if batch is not None:
        each = f' in each of {processes} processes, {batch * processes} together'
        lines.append(f'batch       {batch}{each if processes > 1 else ""}')
    if isinstance(loop, IterBasedTrainLoop):
        lines.append(f'length      {runner.max_iters} iterations')
    else:
        lines.append(
            f'length      {runner.max_epochs} epochs of {len(loader)} iterations: '
            f'{runner.max_iters} iterations'
        )
    if runner.iter:
        lines.append(
            f'goes on     from iteration {runner.iter} (epoch {runner.epoch + 1}); '
            f'{max(runner.max_iters - runner.iter, 0)} are left'
        )
    lines += images_looked_at(loader.dataset)
    reading = getattr(runner, 'reading', None)
    if reading is not None:
        lines.append(f'channels    {reading["channels"]}, as float32 in [0, 255]')
        lines += windows_text(reading)
    bank = getattr(getattr(model, 'queue', None), 'bank', None)
    if bank is not None:
        lines.append(f'queue       {len(bank)} keys')
    lines.append(f'device      {_device(model)}, {loader.num_workers} loader workers per process')
    lines.append(f'checkpoints {_rhythm(runner)}')
    lines.append(f'log         {runner.log_dir} (with the environment and the whole config)')
    lines.append('The time left is "eta" in the lines that follow.')
    return '\n'.join([f'{type(model).__name__} begins', *(f'  {line}' for line in lines)])


def images_looked_at(dataset) -> list[str]:
    """Sizes and depths of some images, by their headers; nothing of data sets without paths."""
    folders = [folder for folder in _folders(dataset) if len(folder)]
    if not folders:
        return []
    each = -(-LOOKED_AT // len(folders))
    records = [
        folder.image_record(place)
        for folder in folders
        for place in range(0, len(folder), -(-len(folder) // each))
    ]
    found = survey([describe(record) for record in records])
    lines = [
        f'sizes       {found.size_text()} (of {len(records)} looked at)',
        f'kinds       {found.kind_text()}',
    ]
    if found.unreadable:
        reason, where = next(iter(found.problems.items()))
        lines.append(
            f'broken      {found.unreadable} of them cannot be read, such as {where[0]}: {reason}'
        )
    return lines


def _folders(dataset: Any) -> list:
    """The ``ImageFolder`` of a data set, or those that are joined in it."""
    if hasattr(dataset, 'image_root'):
        return [dataset]
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    return [folder for one in inner if one is not None for folder in _folders(one)]


def windows_text(reading: dict) -> list[str]:
    """Returns a line for the window of all channels, or one for each channel, and how it was
    found."""
    pairs = reading['window']
    names = [''] if len(pairs) == 1 else [f'channel {c}: ' for c in range(len(pairs))]
    return [
        f'window      {name}{low:.6g} to {high:.6g} become 0 to 255'
        for name, (low, high) in zip(names, pairs)
    ] + [f'            ({reading["how"]})'] * bool(reading['how'])


def last_screen(runner, seconds: float, iterations: int) -> str:
    """Lists what was made, and what to type next."""
    pointer = osp.join(runner.work_dir, POINTER)
    lines = [
        f'finished: epoch {runner.epoch}, iteration {runner.iter}; {iterations} iterations in '
        f'{_duration(seconds)}'
    ]
    if osp.exists(pointer):
        with open(pointer) as file:
            last = file.read().strip()
        lines.append(f'  checkpoint  {last}')
        best = runner.message_hub.runtime_info.get('best_ckpt')
        if best:
            lines.append(f'  best        {best}')
        if hasattr(bare_model(runner.model), 'backbone') and hasattr(
            bare_model(runner.model), 'momentum_backbone'
        ):
            lines += [
                'next:',
                f'  mim run plrc_plugin report {runner.work_dir}',
                f'  mim run plrc_plugin explorer {runner.work_dir}',
                f'  mim run plrc_plugin export_checkpoint {last} trunk.pth --to mmdet',
                f'  fine-tune: pretrained={last} in a config of mmdet or mmseg (docs/transfer.md)',
                '  compare with labels of yours: python -m plrc_plugin worth (docs/worth.md)',
            ]
    return '\n'.join(lines)


def _device(model) -> str:
    parameter = next(model.parameters(), None)
    if parameter is None:
        return 'cpu'
    if parameter.device.type == 'cuda':
        import torch

        return f'{parameter.device} ({torch.cuda.get_device_name(parameter.device)})'
    return str(parameter.device)


def _rhythm(runner) -> str:
    hook = next((h for h in runner.hooks if isinstance(h, CheckpointHook)), None)
    if hook is None:
        return 'none: there is no checkpoint hook'
    folder = hook.out_dir if hook.last_ckpt else folders_of(runner.cfg, runner.work_dir)[-1]
    unit = 'epoch' if hook.by_epoch else 'iteration'
    if hook.interval < 1:
        return f'{"after the last " + unit if hook.save_last else "never"}, in {folder}'
    plural = f'{hook.interval} {unit}s' if hook.interval > 1 else unit
    kept = f', the last {hook.max_keep_ckpts} are kept' if hook.max_keep_ckpts > 0 else ''
    return f'every {plural}{kept}, in {folder}'


def _duration(seconds: float) -> str:
    return (
        time.strftime('%H:%M:%S', time.gmtime(seconds))
        if seconds < 86400
        else (f'{seconds / 86400:.1f} days')
    )
