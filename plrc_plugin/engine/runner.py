"""The runner of pre-training: any launcher with or without GPUs, and readable config errors."""

import difflib
import errno
import inspect
import os
import subprocess
import warnings
from contextlib import contextmanager

import torch
from mmengine.dist import is_distributed
from mmengine.runner import Runner

from plrc_plugin.checkpoints.mmengine_loader import read_without_running
from plrc_plugin.datasets.keyed_loader import keyed_loader
from plrc_plugin.errors import SettingsError
from plrc_plugin.registry import RUNNERS
from plrc_plugin.wrapped_models import bare_model

# Environment variables of each launcher: rank, number of processes, rank on the node.
_LAUNCHERS = dict(
    pytorch=('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    slurm=('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    mpi=('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
)


@RUNNERS.register_module()
class PretrainRunner(Runner):
    """mmengine's ``Runner`` that also runs many processes without GPU, and in which a setting that
    cannot work is one :class:`SettingsError` before the first iteration.

    Chosen by ``runner_type='plrc_plugin.PretrainRunner'``.
    """

    @classmethod
    def from_cfg(cls, cfg):
        _check_names(cfg)
        seed = cfg.get('randomness', {}).get('seed')
        if seed is not None and (not isinstance(seed, int) or not 0 <= seed < 2**32):
            raise SettingsError(f'randomness.seed must be an integer in [0, 2**32), got {seed!r}')
        read_without_running()
        with readable_errors('the config'):
            return super().from_cfg(cfg)

    def train(self):
        try:
            return super().train()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise RuntimeError(
                f'the run cannot write its records any more: {error}. Checkpoints are intact: make '
                'room, or choose another --work-dir, and start again with --resume.'
            ) from error

    def setup_env(self, env_cfg: dict) -> None:
        if self.distributed and not is_distributed() and not torch.cuda.is_available():
            init_processes_without_gpu(self.launcher)
        super().setup_env(env_cfg)
        if _restarts_may_hang(os.environ):
            warnings.warn(
                'torchrun --max-restarts: workers that restart may read the addresses of '
                'the dead ones and wait for them for ever. Start it with --rdzv-backend '
                'c10d and TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in its environment'
            )

    def set_randomness(self, seed, diff_rank_seed=False, deterministic=False) -> None:
        if deterministic:  # cuBLAS reads it once, when first used
            os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
        super().set_randomness(seed, diff_rank_seed, deterministic)

    def wrap_model(self, model_wrapper_cfg, model):
        if self.distributed and not torch.cuda.is_available():
            model_wrapper_cfg = {
                'broadcast_buffers': False,
                **(model_wrapper_cfg or {}),
                'device_ids': None,
            }  # mmengine's default names a GPU
        return super().wrap_model(model_wrapper_cfg, model)

    @staticmethod
    def build_dataloader(dataloader, seed=None, diff_rank_seed=False):
        """Also hands the seed and the epoch to the images, whatever samplers, wrappers of data sets
        and batch samplers are between. See :func:`keyed_loader`."""
        loader = keyed_loader(dataloader, None if diff_rank_seed else seed)
        return Runner.build_dataloader(loader, seed, diff_rank_seed)

    def build_train_loop(self, loop):
        with readable_errors('train_cfg or train_dataloader', loop, self._train_dataloader):
            return super().build_train_loop(loop)

    def build_optim_wrapper(self, optim_wrapper):
        with readable_errors('optim_wrapper', optim_wrapper):
            wrapper = super().build_optim_wrapper(optim_wrapper)
        model = bare_model(self.model)
        if hasattr(model, 'watch') and hasattr(wrapper, 'optimizer'):
            model.watch(wrapper.optimizer)
        return wrapper

    def build_param_scheduler(self, scheduler):
        with readable_errors('param_scheduler', scheduler):
            return super().build_param_scheduler(scheduler)

    def load_or_resume(self) -> None:
        with readable_errors('load_from or resume'):
            super().load_or_resume()

    def load_checkpoint(self, filename, *args, **kwargs):
        try:
            return super().load_checkpoint(str(filename), *args, **kwargs)
        except SettingsError as error:
            raise SettingsError(f'load_from: {error}') from error

    def resume(self, *args, **kwargs) -> None:
        given = self._randomness_cfg.get('seed')
        super().resume(*args, **kwargs)
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


@contextmanager
def readable_errors(what: str, *configs):
    """Turns whatever building ``what`` raises into a :class:`SettingsError` of one line, which
    shows the configs, as libraries often do not say which setting they mean."""
    try:
        yield
    except (SettingsError, KeyboardInterrupt):
        raise
    except Exception as error:
        message = ' '.join(str(error).split()) or type(error).__name__
        shown = ', '.join(
            str({k: v for k, v in config.items() if k != 'dataset'})
            if isinstance(config, dict)
            else str(config)
            for config in configs
        )
        given = f' (given: {shown[:300]})' if shown else ''
        raise SettingsError(f'{what} cannot be used: {message[:400]}{given}') from error


def init_processes_without_gpu(launcher: str) -> None:
    """Joins the process group of ``launcher`` through gloo; mmengine would ask for a GPU."""
    rank, size, local_rank = (os.environ[name] for name in _LAUNCHERS[launcher])
    os.environ.update(RANK=rank, WORLD_SIZE=size, LOCAL_RANK=local_rank)
    if 'MASTER_ADDR' not in os.environ:
        if launcher == 'mpi' and os.environ.get('OMPI_COMM_WORLD_LOCAL_SIZE', size) != size:
            raise SettingsError(
                '--launcher mpi on several nodes: set the environment variable '
                'MASTER_ADDR to the name of the first node (mpirun -x MASTER_ADDR)'
            )
        os.environ['MASTER_ADDR'] = _first_node() if launcher == 'slurm' else '127.0.0.1'
    os.environ.setdefault('MASTER_PORT', '29500')
    torch.distributed.init_process_group('gloo')


def _first_node() -> str:
    """The first node of a Slurm job, where its processes meet."""
    if int(os.environ.get('SLURM_NNODES', 1)) == 1:
        return '127.0.0.1'
    nodes = os.environ.get('SLURM_NODELIST', '')
    try:
        return subprocess.check_output(['scontrol', 'show', 'hostnames', nodes], text=True).split()[
            0
        ]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise SettingsError(
            f'the first node of SLURM_NODELIST={nodes} cannot be found ({error}): '
            'set the environment variable MASTER_ADDR to its name'
        ) from error


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
    }
    for name in set(cfg) - known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.88)
        if near:
            raise SettingsError(f'{name} is no setting; did you mean {near[0]}?')
