"""The runner of pre-training: any launcher with or without GPUs, and readable config errors."""

import copy
import difflib
import errno
import inspect
import os
import time
import traceback
import warnings
from contextlib import contextmanager
from typing import Optional

import torch
from mmengine.dist import broadcast_object_list, is_distributed, is_main_process
from mmengine.optim import _ParamScheduler
from mmengine.runner import Runner

from plrc_plugin.auto import unresolved
from plrc_plugin.checkpoints.claim import (
    claim_folders,
    folders_of,
    release,
    remove_checkpoints,
)
from plrc_plugin.checkpoints.mmengine_loader import read_without_running
from plrc_plugin.checkpoints.reading_record import META_KEY, write_record
from plrc_plugin.checkpoints.start import is_encoder_pair, refuse_init_cfg
from plrc_plugin.checkpoints.work_dir import check_folder
from plrc_plugin.datasets.keyed_loader import keyed_loader
from plrc_plugin.engine.hooks.log_means import LogMeansHook
from plrc_plugin.engine.launching import (
    alone_among_tasks,
    check_company,
    init_processes_without_gpu,
    join_processes,
    place_of_this_process,
    prepare_launcher,
)
from plrc_plugin.engine.loading import check_shared_memory, guard_workers
from plrc_plugin.engine.options import check_options, explain_unexpected, unmatched_keys
from plrc_plugin.engine.overview import first_screen, last_screen
from plrc_plugin.engine.resuming import (
    check_model,
    check_optimizers,
    continue_with_settings,
    fresh_options,
    optimizer_settings,
)
from plrc_plugin.errors import SettingsError
from plrc_plugin.models.encoder_pair import EncoderPair
from plrc_plugin.recipe.resolving import earlier_record, resolve
from plrc_plugin.recipe.windows import reading_step, resolve_windows
from plrc_plugin.registry import MODELS, RUNNERS
from plrc_plugin.terminal import explain_missing, only_in_files, shorten
from plrc_plugin.transfer.hooks import LoadTrunk
from plrc_plugin.wrapped_models import bare_model

__all__ = ['PretrainRunner', 'init_processes_without_gpu', 'readable_errors']


@RUNNERS.register_module()
class PretrainRunner(Runner):
    """mmengine's ``Runner`` in which what was asked is done, or one :class:`SettingsError` before
    the first iteration says why not.

    - It runs many processes without GPU too.
    - Options are checked before anything is built.
    - Settings that are ``'auto'`` get the values of the recipe, see :mod:`plrc_plugin.recipe`, and
      a table says which and why. A resumed run keeps those that it began with.
    - Windows of values that are to be measured on the images get their numbers, see
      :mod:`plrc_plugin.recipe.windows`; they are kept with the run.
    - It refuses to write over the checkpoints of an earlier run (unless the config says
      ``overwrite=True``) or into the work dir of another run.
    - A resumed run follows the settings of now, see :mod:`plrc_plugin.engine.resuming`.
    - The environment and the config are written to the log file alone.

    Chosen by ``runner_type='plrc_plugin.PretrainRunner'``.
    """

    optimizer_settings = fresh_options = None  # set once the optimiser is built
    _schedules_given = _resumed = recipe = reading = None

    def __init__(self, *args, **kwargs):
        self._overwrite = bool((kwargs.get('cfg') or {}).get('overwrite', False))
        self._first = 0
        super().__init__(*args, **kwargs)

    @classmethod
    def from_cfg(cls, cfg):
        _check_names(cfg)
        seed = cfg.get('randomness', {}).get('seed')
        if seed is not None and (not isinstance(seed, int) or not 0 <= seed < 2**32):
            raise SettingsError(f'randomness.seed must be an integer in [0, 2**32), got {seed!r}')
        model = cfg.get('model') or {}
        refuse_init_cfg(model.get('init_cfg'), model.get('backbone'))
        _check_one_preprocessor(cfg.get('data_preprocessor'), model)
        check_options(cfg)
        _check_places(cfg)
        _check_activation_checkpointing(cfg)
        check_company(cfg.get('launcher', 'none'))
        check_folder(cfg['work_dir'], 'work_dir')
        read_without_running()
        recipe = reading = None
        with readable_errors('the config', cfg, shown=False):
            if reading_step(cfg) is not None:
                cfg = copy.deepcopy(cfg)
                reading = resolve_windows(cfg, bool(cfg.get('resume')))
            if unresolved(cfg) or cfg.get('budget'):
                cfg = copy.deepcopy(cfg)
                recipe = resolve_together(cfg)
                check_options(cfg)
            runner = super().from_cfg(cfg)
        runner.recipe, runner.reading = recipe, reading
        alone = alone_among_tasks(cfg.get('launcher', 'none'))
        if alone is not None:
            runner.logger.warning(alone)
        if recipe is not None:
            runner.logger.info(recipe.table(), extra=dict(whole=True))
        return runner

    def train(self):
        folders = folders_of(self.cfg, self.work_dir)
        claim_folders(folders, self._resume, self._overwrite, self.logger)
        start = time.monotonic()
        try:
            super().dump_config()
            if self.recipe is not None and is_main_process():
                self.recipe.write(self.work_dir)
            if self.reading is not None and is_main_process():
                write_record(self.work_dir, self.reading)
            model = super().train()
            self.logger.info(
                last_screen(self, time.monotonic() - start, self.iter - self._first),
                extra=dict(whole=True),
            )
            return model
        except OSError as error:
            self._log_traceback()
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise RuntimeError(
                f'the run cannot write its records any more: {error}. Checkpoints are intact: make '
                'room, or choose another --work-dir, and start again with --resume.'
            ) from error
        except Exception:
            self._log_traceback()
            raise
        finally:
            for folder in folders:
                release(folder)

    def dump_config(self) -> None:
        """Nothing: the config of an earlier run stays until this one may train."""

    def build_logger(self, *args, **kwargs):
        logger = super().build_logger(*args, **kwargs)
        shorten(logger, logger.log_file)
        return logger

    def _log_env(self, env_cfg: dict) -> None:
        with only_in_files(self.logger):
            super()._log_env(env_cfg)

    def _log_traceback(self) -> None:
        with only_in_files(self.logger):
            self.logger.error(traceback.format_exc())

    @staticmethod
    def build_dataloader(dataloader, seed=None, diff_rank_seed=False):
        """Also hands the seed and the epoch to the images, whatever samplers, wrappers of data sets
        and batch samplers are between (:func:`keyed_loader`), and sees to it that a worker that
        stands still is noticed (:func:`guard_workers`)."""
        keyed = keyed_loader(dataloader, None if diff_rank_seed else seed)
        loader = Runner.build_dataloader(keyed, seed, diff_rank_seed)
        if isinstance(dataloader, dict):
            guard_workers(loader, 'timeout' in dataloader)
        return loader

    def setup_env(self, env_cfg: dict) -> None:
        if self.distributed and not is_distributed():
            prepare_launcher(self.launcher)
            with readable_meeting():
                if not torch.cuda.is_available():
                    init_processes_without_gpu(self.launcher)
                super().setup_env(env_cfg)
        else:
            super().setup_env(env_cfg)
        if _restarts_may_hang(os.environ):
            warnings.warn(
                'torchrun --max-restarts: workers that restart may read the addresses of '
                'the dead ones and wait for them for ever. Start it with --rdzv-backend '
                'c10d and TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in its environment',
                stacklevel=2,
            )

    def set_randomness(self, seed, diff_rank_seed=False, deterministic=False) -> None:
        if deterministic:  # cuBLAS reads it once, when first used
            os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
        super().set_randomness(seed, diff_rank_seed, deterministic)

    def wrap_model(self, model_wrapper_cfg, model):
        if self.distributed and getattr(getattr(model, 'keep', None), 'projector_epochs', 0):
            # Those of the trunk, in the epochs in which only the projector learns.
            unused = dict(broadcast_buffers=False, find_unused_parameters=True)
            model_wrapper_cfg = {**unused, **(model_wrapper_cfg or {})}
        if self.distributed and not torch.cuda.is_available():
            model_wrapper_cfg = {
                'broadcast_buffers': False,
                **(model_wrapper_cfg or {}),
                'device_ids': None,
            }  # mmengine's default names a GPU
        return super().wrap_model(model_wrapper_cfg, model)

    def register_hooks(self, default_hooks=None, custom_hooks=None) -> None:
        """The hooks of the config, the one that logs means, and for a model of pre-training the one
        that reads ``pretrained``, if it is not there."""
        super().register_hooks(default_hooks, custom_hooks)
        self.register_hook(LogMeansHook())
        reads = any(isinstance(hook, LoadTrunk) for hook in self.hooks)
        if is_encoder_pair(bare_model(self.model)) and not reads:
            self.register_hook(LoadTrunk())

    def build_train_loop(self, loop):
        with readable_errors('train_cfg or train_dataloader', loop, self._train_dataloader):
            return super().build_train_loop(loop)

    def build_optim_wrapper(self, optim_wrapper):
        with readable_errors('optim_wrapper', optim_wrapper):
            built = super().build_optim_wrapper(optim_wrapper)
        for line in unmatched_keys(optim_wrapper, bare_model(self.model)):
            self.logger.warning(line)
        return built

    def build_param_scheduler(self, scheduler):
        if self._schedules_given is None and not _is_built(scheduler):
            self._schedules_given = scheduler
        with readable_errors('param_scheduler', scheduler):
            return super().build_param_scheduler(scheduler)

    def scale_lr(self, optim_wrapper, auto_scale_lr=None) -> None:
        super().scale_lr(optim_wrapper, auto_scale_lr)
        self.optimizer_settings = optimizer_settings(optim_wrapper)
        self.fresh_options = fresh_options(optim_wrapper)

    def save_checkpoint(self, *args, meta=None, **kwargs) -> None:
        """mmengine's, with the options of the optimisers before schedules changed them, and how
        images were read."""
        meta = {**(meta or {}), 'optimizers': self.optimizer_settings}
        if self.reading is not None:
            meta[META_KEY] = self.reading
        super().save_checkpoint(*args, meta=meta, **kwargs)

    def load_or_resume(self) -> None:
        with readable_errors('load_from or resume'):
            super().load_or_resume()
        if self._overwrite and is_main_process():
            for path in remove_checkpoints(folders_of(self.cfg, self.work_dir)):
                self.logger.warning(f'overwrite=True: {path} of the earlier run is removed')
        self._first = self.iter
        check_shared_memory(self.train_dataloader, 'train_dataloader')
        if self._val_loop is not None:
            check_shared_memory(self.val_dataloader, 'val_dataloader')
        self.logger.info(first_screen(self), extra=dict(whole=True))

    def load_checkpoint(self, filename, *args, **kwargs):
        try:
            checkpoint = super().load_checkpoint(str(filename), *args, **kwargs)
        except SettingsError as error:
            raise SettingsError(f'load_from: {error}') from error
        if self._resumed is not None:
            check_model(bare_model(self.model), checkpoint, filename)
            if self.optimizer_settings is not None and 'optimizer' in checkpoint:
                check_optimizers(self.optimizer_settings, checkpoint)
            self._resumed = dict(checkpoint)
            checkpoint.pop('param_schedulers', None)  # continue_with_settings has them
        return checkpoint

    def resume(self, filename, *args, **kwargs) -> None:
        given = self._randomness_cfg.get('seed')
        self._resumed = {}
        try:
            super().resume(filename, *args, **kwargs)
            checkpoint = self._resumed
        finally:
            self._resumed = None
        seed = self._randomness_cfg.get('seed')
        if given not in (None, seed):
            raise SettingsError(
                f'randomness.seed={given}, and the checkpoint was made with {seed}: the order of '
                f'images would change within the run. Resume with randomness.seed={seed}, or start '
                'in another work dir from these weights with load_from'
            )
        loader = self.train_dataloader  # made before the checkpoint's seed was known
        if given is None and hasattr(loader.sampler, 'seed'):
            loader.sampler.seed = seed
        if hasattr(self.train_loop, 'fit_position'):
            self.train_loop.fit_position()
        if self.optimizer_settings is not None:
            continue_with_settings(self, checkpoint, self._new_schedules)
        if self.iter >= self.max_iters:
            length = (
                f'train_cfg.max_iters={self.max_iters}'
                if not hasattr(self.train_loop, 'run_epoch')
                else f'train_cfg.max_epochs={self.max_epochs}'
            )
            self.logger.warning(
                f'nothing is left to train: {filename} is at iteration {self.iter} (epoch '
                f'{self.epoch}), and {length} is reached. Raise it to go on.'
            )

    def _new_schedules(self):
        if self._schedules_given is None:
            return self.param_schedulers
        return self.build_param_scheduler(self._schedules_given)


def _check_one_preprocessor(beside: Optional[dict], model: dict) -> None:
    """mmengine gives the model the one beside it only if it has none of its own."""
    kind, inside = MODELS.get(model.get('type') or ''), model.get('data_preprocessor')
    if not beside or not inside or not isinstance(kind, type) or not issubclass(kind, EncoderPair):
        return
    if any(inside.get(name) != value for name, value in beside.items()):
        raise SettingsError(
            'data_preprocessor and model.data_preprocessor differ, and only the second would be '
            'used: set model.data_preprocessor and leave the other out'
        )


def _check_places(cfg: dict) -> None:
    """Visualizers write to folders too, and would make one that is called like an address."""
    visualizer = cfg.get('visualizer')
    if not isinstance(visualizer, dict):
        return
    parts = {'visualizer': visualizer}
    for i, backend in enumerate(visualizer.get('vis_backends') or ()):
        parts[f'visualizer.vis_backends.{i}'] = backend
    for where, part in parts.items():
        folder = part.get('save_dir') if isinstance(part, dict) else None
        if '://' in str(folder):
            raise SettingsError(
                f'{where}.save_dir={folder}: it is written to folders, and an object store is '
                'none. Give a folder, local or mounted, and copy it afterwards'
            )


def _check_activation_checkpointing(cfg: dict) -> None:
    """mmengine's leaves a trunk without gradient, as images need none, and counts each batch twice
    in running statistics."""
    kind = MODELS.get((cfg.get('model') or {}).get('type') or '')
    named = cfg.get('activation_checkpointing')
    if named and isinstance(kind, type) and issubclass(kind, EncoderPair):
        raise SettingsError(
            f'activation_checkpointing={named} would leave parts of the model without gradient, or '
            "count batches twice: use custom_hooks=[dict(type='plrc_plugin.TrunkOptionsHook', "
            "recompute=['backbone.layer1', ...])] (docs/options.md)"
        )


def resolve_together(cfg):
    """Resolves every ``'auto'`` of ``cfg``, in place and alike in every process of the run.

    Each process does it before they meet, so that what is timed has the company that it will have;
    then all take what process 0 has found.
    """
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none':
        return resolve(cfg, record=earlier_record(cfg))
    prepare_launcher(launcher)
    place = place_of_this_process(launcher)
    if torch.cuda.is_available():
        torch.cuda.set_device(place.local_rank % torch.cuda.device_count())
    try:
        say = None if place.rank else print
        recipe = resolve(cfg, place.processes, place.processes_here, earlier_record(cfg), say)
        result = [(recipe, cfg.to_dict())]
    except Exception as error:  # the others wait for it
        result = [error]
    with readable_meeting():
        if not is_distributed():
            join_processes(launcher, cfg.get('env_cfg', {}))
        broadcast_object_list(result)
    if isinstance(result[0], Exception):
        raise result[0]
    recipe, values = result[0]
    for name, value in values.items():
        cfg[name] = value
    return recipe


@contextmanager
def readable_errors(what: str, *configs, shown: bool = True):
    """Turns whatever building ``what`` raises into a :class:`SettingsError` of one line, which
    shows the configs, as libraries often do not say which setting they mean."""
    try:
        yield
    except (SettingsError, KeyboardInterrupt):
        raise
    except Exception as error:
        known = explain_missing(error) or explain_unexpected(error, *configs)
        if known is not None:
            raise SettingsError(known) from error
        message = ' '.join(str(error).split()) or type(error).__name__
        texts = ', '.join(
            str({k: v for k, v in config.items() if k != 'dataset'})
            if isinstance(config, dict)
            else str(config)
            for config in configs
            if shown
        )
        given = f' (given: {texts[:300]})' if texts else ''
        raise SettingsError(f'{what} cannot be used: {message[:400]}{given}') from error


@contextmanager
def readable_meeting():
    """Names the address at which processes could not meet, which no config holds."""
    try:
        yield
    except (SettingsError, KeyboardInterrupt):
        raise
    except Exception as error:
        place = f'{os.environ.get("MASTER_ADDR")}:{os.environ.get("MASTER_PORT")}'
        message = ' '.join(str(error).split())[:300]
        raise SettingsError(
            f'the processes cannot meet at {place}: {message}. If another job uses the port, set '
            'the environment variable MASTER_PORT to a free one, the same for all processes'
        ) from error


def _is_built(schedules) -> bool:
    if isinstance(schedules, dict):
        return 'type' not in schedules and all(_is_built(s) for s in schedules.values())
    if isinstance(schedules, (list, tuple)):
        return all(_is_built(s) for s in schedules)
    return True if schedules is None else isinstance(schedules, _ParamScheduler)


def _restarts_may_hang(environ) -> bool:
    """torch 2.10 keeps one store over all restarts, with the keys of the processes that died."""
    return (
        environ.get('TORCHELASTIC_USE_AGENT_STORE') == 'True'
        and int(environ.get('TORCHELASTIC_MAX_RESTARTS', 0)) > 0
    )


def _check_names(cfg: dict) -> None:
    """Raises where a top-level name is nearly that of a setting: mmengine ignores names that it
    does not know, and configs are free to have variables of their own."""
    known = set(inspect.signature(Runner.__init__).parameters) | {
        'runner_type',
        'find_unused_parameters',
        'sync_bn',
        'activation_checkpointing',
        'compile',
        'custom_imports',
        'launcher',
        'overwrite',
    }
    for name in set(cfg) - known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.88)
        if near:
            raise SettingsError(f'{name} is no setting; did you mean {near[0]}?')
