"""A loss that is not finite: what was fed, by which weights, and how to see it again."""

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
    """Logs what is known, writes the step to the work dir and returns the error with both.

    The optimiser has not stepped: the weights are those that met the batch.
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
    runner.logger.error(known)  # before writing, which a full disk prevents
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
    )  # to be read, never run
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
    """A batch of tensors, numbers and text: what is read back without building any class. Views are
    augmented first where the device does that, as the steps that do it are code."""
    plain = dict(batch)
    for name, view in batch.items():
        if isinstance(view, ViewBatch):
            plain[name] = _augmented(view)._asdict()
    return plain


def _augmented(view: ViewBatch) -> ViewBatch:
    """The same view, whose pixels are what they are after the steps that are left to the device."""
    if view.augmentation is None:
        return view
    images = view.pixels.permute(0, 3, 1, 2).float()
    pixels = augment(images, view.augmentation).to(torch.uint8).permute(0, 2, 3, 1)
    return view._replace(pixels=pixels.contiguous(), augmentation=None)


def _with_views(plain: dict) -> dict:
    """The inverse of :func:`_plain`."""
    return {**plain, **{name: ViewBatch(**plain[name]) for name in ('query', 'key')}}


def replay(path: str, config: Union[str, Config]) -> dict[str, Tensor]:
    """The losses of a dumped step, computed again on the CPU from the weights and batch in it.

    Steps that shuffled their batch over several processes are replayed on one.

    Args:
        path: of the dump, of which tensors, numbers and text are read and nothing is run.
        config: of the run, or its file, such as ``*_resolved.py`` of the work dir. The model is
            built of it, so it has to be one that you trust.
    """
    step = load_tensors(path)  # torch 2.1 knows no bfloat16 where it loads weights only
    if not isinstance(config, Config):
        config = Config.fromfile(config)
    model = MODELS.build(config.model)
    model.load_state_dict(step['state_dict'])
    seed_iteration(step['seed'], step['iteration'], step['rank'])
    batch = model.data_preprocessor(_with_views(step['batch']), training=True)
    batch['epoch'] = step['epoch']  # by which the model knows the warm-up
    with torch.autocast('cpu', step['autocast']) if step['autocast'] else nullcontext():
        return model.train()(**batch, mode='loss')
