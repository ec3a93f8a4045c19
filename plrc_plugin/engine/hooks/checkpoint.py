"""Writes checkpoints whole or not at all, and resumes from the newest whole one."""

import os
import os.path as osp
import re
from typing import Union

import torch
from mmengine.dist import all_reduce, broadcast_object_list, get_world_size, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapperDict
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from plrc_plugin.checkpoints.claim import claim_folders, release
from plrc_plugin.checkpoints.safe_reading import damage_of, plain_scalars
from plrc_plugin.checkpoints.work_dir import (
    BEST,
    POINTER,
    WRITING,
    check_folder,
    newest_first,
    newest_intact_checkpoint,
    publish,
    remove_if_there,
)
from plrc_plugin.errors import SettingsError
from plrc_plugin.registry import HOOKS
from plrc_plugin.terminal import only_in_files
from plrc_plugin.wrapped_models import bare_model


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook`` for machines that fail.

    - A checkpoint is written beside its final name, forced to the disk and renamed. Only then is
      the oldest removed. A process killed at any moment, or a full disk, costs no earlier one.
    - ``resume=True`` takes the newest checkpoint whose checksums hold; damaged ones are named and
      passed over.
    - ``save_best`` removes the former best only once the new one is there.
    - If gradients are accumulated or a loss scaler skipped a step, a checkpoint waits for the next
      step of the optimiser.

    Args:
        interval, by_epoch, max_keep_ckpts, ...: as for ``CheckpointHook``. With ``by_epoch=False``
            checkpoints are also made in the middle of an epoch; ``plrc_plugin.ResumableTrainLoop``
            goes on from there.

    Raises:
        SettingsError: at construction, for an object store, and before the run, if a named
            checkpoint is damaged, or the folder holds those of another run or cannot be written.
        RuntimeError: if a checkpoint cannot be written.
        FloatingPointError: instead of a checkpoint with weights that are not finite.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for name, value in dict(interval=self.interval, max_keep_ckpts=self.max_keep_ckpts).items():
            if not isinstance(value, int) or value == 0:
                raise SettingsError(
                    f'AtomicCheckpointHook: {name} must be a positive integer, or '
                    f'-1 for never (interval) or all (max_keep_ckpts), got '
                    f'{value!r}'
                )
        for name in ('out_dir', 'backend_args', 'file_client_args'):
            value = getattr(self, name)
            if value and ('://' in str(value) if name == 'out_dir' else not _is_local(value)):
                raise SettingsError(
                    f'default_hooks.checkpoint.{name}={value}: AtomicCheckpointHook writes to '
                    'folders, local or mounted. Leave it out and copy the checkpoints afterwards, '
                    "or set default_hooks.checkpoint.type='CheckpointHook', mmengine's own, which "
                    'writes to object stores'
                )
        self._due = self._resumed = False
        self._claimed: list[str] = []

    def before_run(self, runner) -> None:
        """Decides what to resume from."""
        self._resumed = runner._resume
        if not runner._resume:
            return
        found = [None]
        if is_main_process():
            found = [_resume_target(runner)]
        broadcast_object_list(found)
        if isinstance(found[0], SettingsError):
            raise found[0]
        runner._resume, runner._load_from = found[0] is not None, found[0]

    def before_train(self, runner) -> None:
        with only_in_files(runner.logger):  # torch's own advice, and mmengine's about its files
            super().before_train(runner)
        if is_main_process():
            check_folder(self.out_dir, 'default_hooks.checkpoint.out_dir')
        # PretrainRunner has already claimed both folders; another runner has not.
        folders = list(dict.fromkeys([runner.work_dir, self.out_dir]))
        overwrite = bool(runner.cfg.get('overwrite', False))
        claim_folders(folders, self._resumed or runner.iter > 0, overwrite, runner.logger)
        self._claimed = folders
        if is_main_process():
            for name in os.listdir(self.out_dir):
                if name.endswith(WRITING):
                    os.remove(osp.join(self.out_dir, name))

    def after_run(self, runner) -> None:
        """Lets other runs into the folders."""
        for folder in self._claimed:
            release(folder)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        due = not self.by_epoch and (
            self.every_n_train_iters(runner, self.interval, self.save_begin)
            or (self.save_last and self.is_last_train_iter(runner))
        )
        if due or self._due:
            self._save_or_wait(runner, epoch=runner.epoch, iteration=runner.iter + 1)

    def after_train_epoch(self, runner) -> None:
        if self.by_epoch and (
            self.every_n_epochs(runner, self.interval, self.save_begin)
            or (self.save_last and self.is_last_train_epoch(runner))
        ):
            self._save_or_wait(runner, epoch=runner.epoch + 1, iteration=runner.iter)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        plain_scalars(checkpoint['message_hub'])
        without_functions(checkpoint.get('param_schedulers') or [])

    def _save_or_wait(self, runner, epoch: int, iteration: int) -> None:
        self._due = not _step_is_finished(runner) and iteration < runner.max_iters
        if self._due:
            return
        runner.logger.info(f'Saving checkpoint at {iteration} iterations, epoch {epoch}')
        self._save_checkpoint_with_step(
            runner, epoch if self.by_epoch else iteration, dict(epoch=epoch, iter=iteration)
        )

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        name = self.filename_tmpl.format(step)
        average_running_statistics(bare_model(runner.model))
        check_finite(bare_model(runner.model), meta['iter'])
        self.last_ckpt = osp.join(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        if not is_main_process():
            return
        self._write(
            runner,
            self.last_ckpt,
            meta=meta,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            by_epoch=self.by_epoch,
            **self.args,
        )
        self._remove_all_but_last(step)

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        """Does what mmengine's does, but removes the former best only once the new one is whole."""
        if not self.save_best:
            return
        if 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        info, step = runner.message_hub.runtime_info, runner.epoch if self.by_epoch else runner.iter
        meta = dict(epoch=runner.epoch, iter=runner.iter)
        replaced = []
        for name in self.key_indicators:
            if name not in metrics:
                raise SettingsError(
                    f'AtomicCheckpointHook: save_best names {name!r}; validation '
                    f'gave {", ".join(metrics)}'
                )
            suffix = '' if len(self.key_indicators) == 1 else f'_{name}'
            best = info.get(f'best_score{suffix}')
            if not (best is None or self.is_better_than[name](metrics[name], best)):
                continue
            path = osp.join(
                self.out_dir, f'{BEST}{name}_{self.filename_tmpl.format(step)}'.replace('/', '_')
            )
            average_running_statistics(bare_model(runner.model))
            check_finite(bare_model(runner.model), meta['iter'])
            if is_main_process():
                self._write(
                    runner,
                    path,
                    meta=meta,
                    save_optimizer=False,
                    save_param_scheduler=False,
                    by_epoch=False,
                )
            runner.logger.info(f'{path} is the best so far: {name} {metrics[name]:.4f}')
            replaced.append(info.get(f'best_ckpt{suffix}'))
            runner.message_hub.update_info(f'best_score{suffix}', metrics[name])
            runner.message_hub.update_info(f'best_ckpt{suffix}', path)
        if replaced and self.last_ckpt is not None and not self._due:
            self._save_checkpoint_with_step(runner, step, meta)  # with the best in it
        for path in filter(None, replaced):
            name = osp.basename(path)  # the folder may be anybody's, as it comes from a file
            if is_main_process() and name.startswith(BEST) and name.endswith('.pth'):
                remove_if_there(osp.join(self.out_dir, name))

    def _write(self, runner, path: str, **kwargs) -> None:
        folder, name = osp.split(path)
        try:
            runner.save_checkpoint(folder, name + WRITING, backend_args=self.backend_args, **kwargs)
            publish(path)
            if not name.startswith(BEST):
                pointer = osp.join(runner.work_dir, POINTER)
                with open(pointer + WRITING, 'w') as file:
                    file.write(path)
                publish(pointer)
        except OSError as error:
            remove_if_there(path + WRITING)
            raise RuntimeError(
                f'{path} cannot be written: {error}. Earlier checkpoints are intact: make '
                'room, or choose another default_hooks.checkpoint.out_dir, and start again with '
                '--resume.'
            ) from error

    def _remove_all_but_last(self, step: int) -> None:
        if self.max_keep_ckpts < 1:
            return
        pattern = re.compile(re.escape(self.filename_tmpl).replace(r'\{\}', r'(\d+)') + '$')
        steps = (pattern.match(name) for name in os.listdir(self.out_dir))
        steps = sorted(int(match[1]) for match in steps if match and int(match[1]) <= step)
        for old in steps[: -self.max_keep_ckpts]:
            remove_if_there(osp.join(self.out_dir, self.filename_tmpl.format(old)))


def _step_is_finished(runner) -> bool:
    """Whether a checkpoint would hold the whole state. Until the optimiser has stepped, there are
    gradients (with accumulation) or keys (if a loss scaler skipped the step) that no checkpoint
    holds."""
    model = bare_model(runner.model)
    if hasattr(model, 'step_is_finished'):
        return model.step_is_finished
    wrapper = runner.optim_wrapper
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return all(each.should_update() for each in wrappers)


def _same_file(one: str, other: str) -> bool:
    return osp.exists(other) and osp.samefile(one, other)


def without_functions(schedules: Union[dict, list]) -> None:
    """Takes functions out of the states of schedulers, in place. OneCycle keeps one there. Resuming
    would refuse to read it, and makes it anew from the settings."""
    for entry in schedules.values() if isinstance(schedules, dict) else [schedules]:
        for state in entry:
            for name in [name for name, value in state.items() if callable(value)]:
                del state[name]


def _is_local(backend: dict) -> bool:
    return backend.get('backend', 'local') in ('local', 'disk')


def average_running_statistics(model: nn.Module) -> None:
    """Gives the batch normalisations of every process the mean of their running statistics.

    The checkpoint is that of rank 0. Without this it would hold the statistics of a fraction of the
    images, and resuming would lose those of the other ranks. Training does not read these
    statistics.
    """
    if get_world_size() == 1:
        return
    statistics = [
        value
        for m in model.modules()
        if isinstance(m, _BatchNorm)
        for value in (m.running_mean, m.running_var)
        if value is not None
    ]
    if statistics:
        mean = torch.cat(statistics)
        all_reduce(mean, op='mean')
        for value, part in zip(statistics, mean.split([len(s) for s in statistics])):
            value.copy_(part)


def check_finite(model: nn.Module, iteration: int) -> None:
    """Raises FloatingPointError if a parameter or buffer is not finite. The host waits for the
    device once."""
    state = {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
    finite = torch.stack([value.isfinite().all() for value in state.values()]).tolist()
    spoilt = [name for name, good in zip(state, finite) if not good]
    if spoilt:
        raise FloatingPointError(
            f'{len(spoilt)} tensors of the model are not finite after iteration {iteration}, first '
            f'{spoilt[0]}: no checkpoint is made of them, earlier ones are intact. Lower the '
            'learning rate, set optim_wrapper.clip_grad, or train without half precision, and '
            'start again with --resume.'
        )


def _resume_target(runner):
    if runner._load_from is not None:
        path = osp.expanduser(str(runner._load_from))
        damage = damage_of(path)
        newest = next(newest_first(runner.work_dir), path)
        if osp.exists(newest) and not _same_file(newest, path):
            runner.logger.warning(
                f'resuming from {path}, as was asked, and not from {newest}, the newest checkpoint '
                'of the work dir: later ones are written over. To go on from the newest, resume '
                'without naming a checkpoint (load_from=None)'
            )
        return (
            path
            if damage is None
            else SettingsError(
                f'resume from {path}: {damage}. Choose another checkpoint, or --resume without a '
                'path for the newest intact one of the work dir.'
            )
        )
    found = newest_intact_checkpoint(runner.work_dir, runner.logger)
    if found is None:
        unreadable = [path for path in newest_first(runner.work_dir) if osp.exists(path)]
        if unreadable:
            return SettingsError(
                f'resume: none of the {len(unreadable)} checkpoints of {runner.work_dir} can be '
                f'used; {unreadable[0]}: {damage_of(unreadable[0])}. Choose another --work-dir, '
                'or remove them to start anew'
            )
        runner.logger.warning(f'{runner.work_dir} holds no checkpoint: starting anew')
    return found
