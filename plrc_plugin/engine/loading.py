"""Keeps loader workers from leaving a run waiting: checks shared memory before the run, and limits
how long a loader may be silent."""

import multiprocessing.queues
import os
import random
import shutil
import signal
import sys
import time
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from plrc_plugin.datasets.keys import takes_keys
from plrc_plugin.errors import SettingsError
from plrc_plugin.randomness import SampleKey

SHARED_MEMORY = '/dev/shm'
# Seconds without a batch after which a loader counts as silent; train_dataloader.timeout sets
# another limit.
SILENCE = 1800


def guard_workers(loader: DataLoader, timeout_given: bool) -> None:
    """Makes workers end with an error if they would lose a batch, and makes a silent loader an
    error."""
    if not loader.num_workers:
        return
    if not timeout_given:
        loader.timeout = SILENCE
    loader.worker_init_fn = partial(_begin_worker, loader.worker_init_fn)


def check_shared_memory(loader: DataLoader, where: str) -> None:
    """Raises SettingsError if the batches that workers send do not fit into ``/dev/shm``.

    One item is read and collated to know the size of a batch. The random draws of the run do not
    change.
    """
    if not loader.num_workers or not os.path.isdir(SHARED_MEMORY):
        return
    size = bytes_of_a_batch(loader)
    processes = int(os.environ.get('LOCAL_WORLD_SIZE', os.environ.get('SLURM_NTASKS_PER_NODE', 1)))
    ahead = loader.num_workers * (loader.prefetch_factor or 2) + 1
    free = shutil.disk_usage(SHARED_MEMORY).free
    needed = size * ahead * processes
    if needed <= free:
        return
    # Each worker keeps prefetch_factor batches.
    fit = int((free / processes / max(size, 1) - 1) // (loader.prefetch_factor or 2))
    fewer = (
        f'at most {fit} {where}.num_workers'
        if fit > 0
        else f'{where}.num_workers=0 {where}.persistent_workers=False'
    )
    raise SettingsError(
        f'{SHARED_MEMORY} has {_mb(free)} free, and {ahead} batches of {_mb(size)} on their way '
        f'from {loader.num_workers} workers'
        + (f' in each of {processes} processes' if processes > 1 else '')
        + f' need {_mb(needed)}: the run would stand still. Start the container with '
        f'--shm-size={-(-needed * 5 // 4 // 2**20)}m (or --ipc=host), or set {fewer}'
    )


def batch_size_of(loader: DataLoader) -> int:
    """Returns the images per process and iteration. torch does not tell it for a batch sampler."""
    return loader.batch_size or getattr(loader.batch_sampler, 'batch_size', None) or 1


def bytes_of_a_batch(loader: DataLoader) -> int:
    """Returns the bytes of a batch's tensors, which pass through shared memory; 0 if no item can be
    read ahead."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        # The sampler is not used: an endless one would then be one item further.
        item = loader.dataset[SampleKey(0, 0, 0) if takes_keys(loader.dataset) else 0]
        return _bytes(loader.collate_fn([item])) * batch_size_of(loader)
    except Exception:  # the run itself will meet the error and report it
        return 0
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


class LoaderError(RuntimeError):
    """The loader gives no more batches. The message says why and what to do."""


def readable_loader_errors(where: str) -> ExitStack:
    """A context that adds cause and remedy to the errors of torch's loader.

    torch reports the death of a worker from a signal handler. It may run while another error of the
    same death leaves the inner block, which is why there is an outer block.
    """
    blocks = ExitStack()
    blocks.enter_context(_reworded(where))
    blocks.enter_context(_reworded(where))
    return blocks


@contextmanager
def _reworded(where: str):
    try:
        yield
    except LoaderError:
        raise
    except (EOFError, ConnectionError):
        time.sleep(1)  # if a worker has died, torch's signal handler reports it meanwhile
        raise
    except RuntimeError as error:
        text = str(error)
        if 'DataLoader timed out' in text:
            raise LoaderError(
                f'the workers of {where} were silent for the time limit ({where}.timeout seconds): '
                'the storage of the images does not answer, or one image takes so long. '
                f'{_memory_now()} Raise {where}.timeout, set fewer {where}.num_workers, and start '
                'again with --resume.'
            ) from error
        if 'DataLoader worker' in text and ('exited unexpectedly' in text or 'killed' in text):
            raise LoaderError(
                f'a worker of {where} has died ({" ".join(text.split())[:200]}). Usually its '
                f'memory was full: {_memory_now()} Start the container with a larger --shm-size '
                f'(or '
                f'--ipc=host) and more memory, or set fewer {where}.num_workers, and start again '
                'with --resume.'
            ) from error
        raise


def _begin_worker(inner, worker_id: int) -> None:
    # Ctrl-C reaches every process of the terminal, but the main process ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # If the thread that sends batches fails, Python prints the error and drops the batch. The main
    # process would then wait for the batch for ever.
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_worker)
    if inner is not None:
        inner(worker_id)


def _end_worker(error: BaseException, batch) -> None:
    print(f'a loader worker cannot send a batch: {error}', file=sys.stderr, flush=True)
    os._exit(1)


def _bytes(batch) -> int:
    if isinstance(batch, Tensor):
        return batch.untyped_storage().nbytes() if batch.numel() else 0
    if isinstance(batch, dict):
        return sum(_bytes(value) for value in batch.values())
    if isinstance(batch, (list, tuple)):
        return sum(_bytes(value) for value in batch)
    return 0


def _memory_now() -> str:
    if not os.path.isdir(SHARED_MEMORY):
        return ''
    usage = shutil.disk_usage(SHARED_MEMORY)
    return f'{SHARED_MEMORY} has {_mb(usage.free)} of {_mb(usage.total)} free.'


def _mb(size: float) -> str:
    return f'{size / 2**20:.0f} MB'
