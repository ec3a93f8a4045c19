"""Settings of a run that do not fit its data, each with the value that would."""

from typing import NamedTuple, Optional

from plrc_plugin.recipe import rules


class Run(NamedTuple):
    """What is compared. None stands for what a run does not have.

    Attributes:
        images: N.
        batch: images of an iteration, over all processes.
        steps: iterations of the run.
        weights: whether it starts from weights.
        epochs: of the run.
        queue: K.
        momentum: of the momentum encoder.
        warmup_epochs: without L_a.
        lr: the learning rate.
        lr_batch: images of a step to which it belongs.
        step_batch: images of a step, gradient accumulation included.
        lr_warmup: the last iteration of a learning rate that rises.
        log_interval: iterations from one line of the log to the next.
        ends_are_logged: whether the end of an epoch makes a line too.
    """

    images: int
    batch: int
    steps: int
    weights: bool = False
    epochs: Optional[int] = None
    queue: Optional[int] = None
    momentum: Optional[float] = None
    warmup_epochs: Optional[int] = None
    lr: Optional[float] = None
    lr_batch: Optional[int] = None
    step_batch: Optional[int] = None
    lr_warmup: Optional[int] = None
    log_interval: Optional[int] = None
    ends_are_logged: bool = True


def misfits(run: Run) -> list[str]:
    """A line for each setting that does not fit: what it does, and the value that fits."""
    found = [
        _queue(run),
        _momentum(run),
        _warmup(run),
        _lr(run),
        _lr_warmup(run),
        _log(run),
    ]
    return [line for line in found if line]


def _queue(run: Run) -> Optional[str]:
    if run.queue is None:
        return None
    seen = run.steps * run.batch
    fits = rules.queue_size(run.images, seen).value
    if run.queue <= fits:
        return None
    if run.queue > run.images / 2:
        return (
            f'model.queue_size={run.queue} of {run.images} images: the queue holds '
            f'{run.queue / run.images:.1f} keys of each image, which its other views take for '
            f'negatives. model.queue_size={fits} fits'
        )
    if run.queue > seen:
        return (
            f'model.queue_size={run.queue}, and the run sees {seen} images: some of the random '
            f'vectors with which the queue starts stay to the end. model.queue_size={fits} fits'
        )
    return None


def _momentum(run: Run) -> Optional[str]:
    if run.momentum is None or not 0 < run.momentum < 1:
        return None
    over = 1 / (1 - run.momentum)
    fits = rules.momentum(run.steps).value
    if 3 * over <= run.steps + 3 or run.momentum <= fits:
        return None
    return (
        f'model.momentum={run.momentum} averages over {over:.0f} iterations, and the run has '
        f'{run.steps}: the momentum encoder stays near its start. model.momentum={fits} fits'
    )


def _warmup(run: Run) -> Optional[str]:
    if not run.warmup_epochs or run.epochs is None or run.warmup_epochs < run.epochs:
        return None
    fits = rules.warmup_epochs(run.epochs, run.weights).value
    return (
        f'model.warmup_epochs={run.warmup_epochs} of train_cfg.max_epochs={run.epochs}: L_a never '
        f'takes part. model.warmup_epochs={fits} fits, or set model.alpha=1'
    )


def _lr(run: Run) -> Optional[str]:
    if run.lr is None or run.lr_batch is None or run.step_batch in (None, run.lr_batch):
        return None
    return (
        f'optim_wrapper.optimizer.lr={run.lr:g} belongs to steps of {run.lr_batch} images, and a '
        f'step of this run has {run.step_batch}. optim_wrapper.optimizer.lr='
        f'{run.lr * run.step_batch / run.lr_batch:.4g} auto_scale_lr.base_batch_size='
        f'{run.step_batch} fits; without accumulation --auto-scale-lr does the same'
    )


def _lr_warmup(run: Run) -> Optional[str]:
    if run.lr_warmup is None or run.lr_warmup < run.steps:
        return None
    fits = rules.lr_warmup(run.steps, weights=True).value
    return (
        f'param_scheduler: the learning rate rises until iteration {run.lr_warmup}, and the run '
        f'has {run.steps}: it never reaches its value. end={fits} fits'
    )


def _log(run: Run) -> Optional[str]:
    if run.log_interval is None or run.ends_are_logged or run.log_interval <= run.steps:
        return None
    fits = rules.log_interval(run.steps, gpu=True).value
    return (
        f'default_hooks.logger.interval={run.log_interval}, and the run has {run.steps} '
        f'iterations: the log stays empty. default_hooks.logger.interval={fits} fits'
    )
