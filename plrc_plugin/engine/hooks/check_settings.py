"""Settings that are each fine and cannot work together, found before the first iteration."""

from typing import Optional

from mmengine.dist import get_world_size
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook, LoggerHook
from mmengine.optim import LinearLR
from mmengine.optim.scheduler.param_scheduler import ReduceOnPlateauParamScheduler
from mmengine.runner import IterBasedTrainLoop
from torch.distributed.optim import ZeroRedundancyOptimizer

from plrc_plugin.checkpoints.start import SCRATCH
from plrc_plugin.engine.loading import batch_size_of
from plrc_plugin.errors import SettingsError, check_positive_integers
from plrc_plugin.models.encoder_pair import EncoderPair
from plrc_plugin.models.input_channels import channels_of
from plrc_plugin.models.views_preprocessor import ViewsPreprocessor
from plrc_plugin.recipe.misfits import Run, misfits
from plrc_plugin.registry import HOOKS
from plrc_plugin.views.two_views import TwoViews
from plrc_plugin.wrapped_models import bare_model


@HOOKS.register_module()
class CheckSettingsHook(Hook):
    """Checks data and model against each other before the run, and warns of settings that do not
    fit the number of images or the length of the run (:mod:`plrc_plugin.recipe.misfits`).

    Raises:
        SettingsError: for views smaller than the network's stride or that nobody would augment, a
            batch of one with shuffled batch normalisation, a data set smaller than one batch, a
            warm-up in epochs without epochs, a sharded optimiser, processes of different numbers
            of images, and what waits for a validation that the config has not.
    """

    def before_run(self, runner) -> None:
        for hook in runner.hooks:
            if isinstance(hook, LoggerHook):
                check_positive_integers('default_hooks.logger', interval=hook.interval)
        check_positive_integers('log_processor', window_size=runner.log_processor.window_size)
        _check_validation(runner)
        if not isinstance(runner.cfg.get('train_dataloader'), dict):
            return
        model = bare_model(runner.model)
        if (
            getattr(model, 'alpha', 1) < 1
            and model.warmup_epochs
            and isinstance(runner.train_loop, IterBasedTrainLoop)
        ):
            raise SettingsError(
                f'model.warmup_epochs={model.warmup_epochs} counts epochs, and '
                'train_cfg is a loop without any, so L_a would never start: use '
                "train_cfg.type='plrc_plugin.ResumableTrainLoop', or "
                'model.warmup_epochs=0'
            )
        first = getattr(getattr(model, 'keep', None), 'projector_epochs', 0)
        if first and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise SettingsError(
                f'model.keep.projector_epochs={first} counts epochs, and train_cfg is a loop '
                'without any, so the trunk would never learn: use train_cfg.type='
                "'plrc_plugin.ResumableTrainLoop'"
            )
        if first and first >= runner.max_epochs:
            runner.logger.warning(
                f'model.keep.projector_epochs={first} of train_cfg.max_epochs={runner.max_epochs}: '
                'the trunk never learns'
            )
        # OptimWrapperDict has no optimiser of its own.
        if isinstance(getattr(runner.optim_wrapper, 'optimizer', None), ZeroRedundancyOptimizer):
            raise SettingsError(
                'optim_wrapper.optimizer.type=ZeroRedundancyOptimizer spreads its '
                'state over the processes, and a checkpoint would wait for them '
                'for ever: use a plain optimiser such as SGD'
            )
        loader = runner.train_dataloader
        batch_size = batch_size_of(loader)
        pipeline = getattr(loader.dataset, 'pipeline', None)  # wrappers of data sets have none
        views = [t for t in getattr(pipeline, 'transforms', ()) if isinstance(t, TwoViews)]
        if views and views[0].size < model.stride:
            raise SettingsError(
                f'TwoViews: size={views[0].size} is smaller than the stride {model.stride} of the '
                f"backbone: set size to at least {2 * model.stride}, or lower the backbone's "
                'strides'
            )
        channels = channels_of(model.backbone)
        if views and views[0].channels != channels:
            raise SettingsError(
                f'TwoViews gives {views[0].channels} channels, and the backbone takes {channels} '
                'channels: set channels of TwoViews and model.backbone.in_channels alike'
            )
        if (
            views
            and views[0].where == 'device'
            and not isinstance(model.data_preprocessor, ViewsPreprocessor)
        ):
            raise SettingsError(
                "TwoViews: where='device' (or photometric='device') leaves the photometric steps "
                "to the model's ViewsPreprocessor, and model.data_preprocessor is a "
                f"{type(model.data_preprocessor).__name__}: use where='loader', or a subclass of "
                'ViewsPreprocessor'
            )
        if batch_size * get_world_size() == 1 and model.shuffle_bn:
            raise SettingsError(
                'train_dataloader.batch_size=1 on one process leaves nothing to shuffle, and batch '
                'normalisation nothing to average: set it to at least 2, or '
                'model.shuffle_bn=False'
            )
        if get_world_size() > 1 and not getattr(loader.sampler, 'round_up', True):
            raise SettingsError(
                'train_dataloader.sampler.round_up=False gives processes different '
                'numbers of images, and they would wait for each other: leave it '
                'at True'
            )
        if len(loader) == 0:
            raise SettingsError(
                f'the {len(loader.dataset)} images of train_dataloader.dataset do not fill one '
                f'batch of {batch_size} per process, and drop_last=True leaves none: lower '
                'train_dataloader.batch_size'
            )

    def before_train(self, runner) -> None:
        model = bare_model(runner.model)
        _warn_of_no_checkpoint(runner)
        if not isinstance(model, EncoderPair):
            return
        for line in misfits(_run_of(runner, model)):
            runner.logger.warning(f'{line} (docs/recipe.md)')
        if not hasattr(model, 'queue'):
            return
        keys = len(model.queue.bank)
        batch = batch_size_of(runner.train_dataloader) * get_world_size()
        runner.logger.info(
            f'l_m rises before it falls: the queue starts with {keys} random vectors, easy '
            f'negatives, which real keys have replaced after {-(-keys // batch)} iterations'
        )


def _check_validation(runner) -> None:
    """Without validation, what follows its metrics would do nothing, and say nothing."""
    if runner._val_loop is not None:
        return
    remedy = (
        'validation, and the config has none: set val_cfg, val_dataloader and val_evaluator '
        '(docs/seeing.md), or leave it out'
    )
    if any(isinstance(hook, EarlyStoppingHook) for hook in runner.hooks):
        raise SettingsError(f'custom_hooks: EarlyStoppingHook follows a metric of {remedy}')
    schedules = runner.param_schedulers or []
    groups = schedules.values() if isinstance(schedules, dict) else [schedules]
    for schedule in (schedule for group in groups for schedule in group):
        if isinstance(schedule, ReduceOnPlateauParamScheduler):
            raise SettingsError(
                f'param_scheduler: {type(schedule).__name__} follows a metric of {remedy}'
            )
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best:
            runner.logger.warning(
                f'default_hooks.checkpoint.save_best={hook.save_best!r}: no best checkpoint is '
                f'kept, as it needs {remedy}'
            )


def _warn_of_no_checkpoint(runner) -> None:
    """A run that is shorter than the interval of its checkpoints leaves nothing."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    for hook in hooks:
        length = runner.max_epochs if hook.by_epoch else runner.max_iters
        if not hook.save_last and (hook.interval < 1 or hook.interval > length):
            unit = 'epochs' if hook.by_epoch else 'iterations'
            runner.logger.warning(
                f'no checkpoint will be written: default_hooks.checkpoint.interval={hook.interval} '
                f'of {length} {unit}, and save_last=False'
            )


def _run_of(runner, model) -> Run:
    """The settings of a run, as they were built."""
    counts_epochs = not isinstance(runner.train_loop, IterBasedTrainLoop)
    loader = runner.train_dataloader
    schedules = runner.param_schedulers or []
    groups = schedules.values() if isinstance(schedules, dict) else [schedules]
    rises = [s.end for group in groups for s in group if isinstance(s, LinearLR) and not s.by_epoch]
    loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
    cfg = getattr(runner, 'cfg', {})
    scaled = cfg.get('auto_scale_lr') or {}
    batch = batch_size_of(loader) * get_world_size()
    return Run(
        images=len(loader.dataset),
        batch=batch,
        steps=runner.max_iters,
        weights=cfg.get('pretrained') not in (None, SCRATCH),
        epochs=runner.max_epochs if counts_epochs else None,
        queue=len(model.queue.bank) if hasattr(model, 'queue') else None,
        momentum=model.momentum,
        warmup_epochs=model.warmup_epochs if getattr(model, 'alpha', 1) < 1 else None,
        lr=_learning_rate(cfg),
        lr_batch=None if scaled.get('enable') else scaled.get('base_batch_size'),
        step_batch=batch * getattr(runner.optim_wrapper, '_accumulative_counts', 1),
        lr_warmup=max(rises, default=None),
        log_interval=min((hook.interval for hook in loggers), default=None),
        ends_are_logged=counts_epochs,
    )


def _learning_rate(cfg) -> Optional[float]:
    """The one of the config; several optimisers have none in common."""
    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer')
    return optimizer.get('lr') if isinstance(optimizer, dict) else None
