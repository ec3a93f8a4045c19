"""Keeps the batch and the weights of a loss that is not finite, and computes it again."""

import os
import os.path as osp
from contextlib import nullcontext
from typing import Union

import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from torch import Tensor

from plrc_plugin.checkpoints.safe_reading import load_tensors
from plrc_plugin.engine.seeding import seed_iteration
from plrc_plugin.errors import NonFiniteLossError
from plrc_plugin.models import ViewBatch
from plrc_plugin.registry import MODELS
from plrc_plugin.views import augment
from plrc_plugin.wrapped_models import bare_model


def dump_step(runner, data_batch: dict, error: NonFiniteLossError) -> NonFiniteLossError:
    """Logs the cause, writes the step to the work dir, and returns the error that names both.

    The optimiser has not stepped, so that the weights are those that the batch met.
    """
    model = bare_model(runner.model)
    model.discard_keys()
    state = model.state_dict()
    spoilt = [
        name
        for name, value in state.items()
        if value.is_floating_point() and not value.isfinite().all()
    ]
    names = '\n'.join(f'  {name}' for name in data_batch.get('paths', []))
    cause = (
        'The weights were finite.'
        if not spoilt
        else f'{len(spoilt)} tensors of the model were not finite before, first {spoilt[0]}: the '
        'gradients of an earlier step were not. Lower the learning rate, set '
        'optim_wrapper.clip_grad, or train without half precision.'
    )
    known = (
        f'{error} at iteration {runner.iter + 1} (epoch {runner.epoch + 1}). {cause} Images '
        f'of this process:\n{names}'
    )
    runner.logger.error(known)  # before writing, which a full disk would prevent
    path = osp.join(runner.work_dir, f'non_finite_iter_{runner.iter + 1}_rank_{get_rank()}.pt')
    step = dict(
        iteration=runner.iter,
        epoch=runner.epoch,
        seed=runner.seed,
        rank=get_rank(),
        autocast=getattr(runner.optim_wrapper, 'cast_dtype', None),
        losses=error.losses,
        batch=_plain(data_batch),
        state_dict=state,
        model=Config(dict(model=runner.cfg.model)).pretty_text,
    )  # for reading; it is never run
    try:
        torch.save(step, path)
        kept = f'The step is kept in {path}; plrc_plugin.engine.replay(path, config) runs it again.'
    except (OSError, RuntimeError) as failure:  # torch's writer raises either
        kept = f'The step cannot be kept in {path}: {" ".join(str(failure).split())[:200]}.'
        if osp.exists(path):
            os.remove(path)
    return NonFiniteLossError(
        f'{known}\n{kept} Checkpoints made before are not touched.', error.losses
    )


def _plain(batch: dict) -> dict:
    """Returns a batch as tensors, numbers and text, which can be read back without building any
    class. Views that the device augments are augmented first, because the steps are code."""
    plain = dict(batch)
    for name, view in batch.items():
        if isinstance(view, ViewBatch):
            plain[name] = _augmented(view)._asdict()
    return plain


def _augmented(view: ViewBatch) -> ViewBatch:
    """Returns the view after the steps that are left to the device."""
    if view.augmentation is None:
        return view
    images = view.pixels.permute(0, 3, 1, 2).float()
    pixels = augment(images, view.augmentation).to(torch.uint8).permute(0, 2, 3, 1)
    return view._replace(pixels=pixels.contiguous(), augmentation=None)


def _with_views(plain: dict) -> dict:
    """Is the inverse of :func:`_plain`."""
    return {**plain, **{name: ViewBatch(**plain[name]) for name in ('query', 'key')}}


def replay(path: str, config: Union[str, Config]) -> dict[str, Tensor]:
    """Computes the losses of a dumped step again, on the CPU, from the weights and the batch in it.

    Steps that shuffled their batch over several processes are replayed on one.

    Args:
        path: the dump. Tensors, numbers and text are read from it, and nothing in it is run.
        config: the config of the run or its file, such as ``*_resolved.py`` of the work dir. The
            model is built from it, so it must be one that you trust.
    """
    step = load_tensors(path)  # torch 2.1 cannot load bfloat16 with weights_only
    if not isinstance(config, Config):
        config = Config.fromfile(config)
    model = MODELS.build(config.model)
    model.load_state_dict(step['state_dict'])
    seed_iteration(step['seed'], step['iteration'], step['rank'])
    batch = model.data_preprocessor(_with_views(step['batch']), training=True)
    batch['epoch'] = step['epoch']  # the model needs it for the warm-up
    with torch.autocast('cpu', step['autocast']) if step['autocast'] else nullcontext():
        return model.train()(**batch, mode='loss')
