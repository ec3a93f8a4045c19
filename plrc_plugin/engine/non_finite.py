"""A loss that is not finite: what was fed, by which weights, and how to see it again."""
import os.path as osp
from typing import Dict

import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.model import is_model_wrapper
from torch import Tensor

from plrc_plugin.errors import NonFiniteLossError
from plrc_plugin.registry import MODELS

from .seeding import seed_iteration


def dump_step(runner, data_batch: dict, error: NonFiniteLossError) -> NonFiniteLossError:
    """Writes the step to the work dir and returns the error with all that is known.

    The optimiser has not stepped: the weights are those that met the batch.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    model.discard_keys()
    state = model.state_dict()
    spoilt = [name for name, value in state.items()
              if value.is_floating_point() and not value.isfinite().all()]
    path = osp.join(runner.work_dir, f'non_finite_iter_{runner.iter + 1}_rank_{get_rank()}.pt')
    torch.save(
        dict(iteration=runner.iter, epoch=runner.epoch, seed=runner.seed, rank=get_rank(),
             losses=error.losses, batch=data_batch, state_dict=state,
             model=Config(dict(model=runner.cfg.model)).pretty_text), path)
    names = '\n'.join(f'  {name}' for name in data_batch.get('paths', []))
    cause = ('The weights were finite.' if not spoilt else
             f'{len(spoilt)} tensors of the model were not finite before, first {spoilt[0]}: the '
             'gradients of an earlier step were not. Lower the learning rate, set '
             'optim_wrapper.clip_grad, or train without half precision.')
    return NonFiniteLossError(
        f'{error} at iteration {runner.iter + 1} (epoch {runner.epoch + 1}). {cause} The step is '
        f'kept in {path}; plrc_plugin.engine.replay(path) runs it again. Checkpoints made before '
        f'are not touched. Images of this process:\n{names}', error.losses)


def replay(path: str) -> Dict[str, Tensor]:
    """The losses of a dumped step, computed again on the CPU from the weights and batch in it.

    Steps that shuffled their batch over several processes are replayed on one.
    """
    step = torch.load(path, map_location='cpu', weights_only=True)
    model = MODELS.build(Config.fromstring(step['model'], file_format='.py').model)
    model.load_state_dict(step['state_dict'])
    model.mark_step_finished()
    seed_iteration(step['seed'], step['iteration'], step['rank'])
    batch = model.data_preprocessor(step['batch'], training=True)
    return model.train()(**batch, mode='loss')
