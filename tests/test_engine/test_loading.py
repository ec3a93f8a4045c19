"""A run never waits for a batch that will not come."""

import os
import shutil
import time
from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import Runner
from torch.utils.data import Dataset

from plrc_plugin.engine import loading
from plrc_plugin.engine.loading import (
    SILENCE,
    bytes_of_a_batch,
    check_shared_memory,
    guard_workers,
    readable_loader_errors,
)
from plrc_plugin.errors import SettingsError

MB = 2**20


class Images(Dataset):
    """Items of one MB; the third does something on its way."""

    def __init__(self, third=None):
        self.third = third

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 2 and self.third == 'sleeps':
            time.sleep(60)
        if index == 2 and self.third == 'dies':
            os.kill(os.getpid(), 9)
        if index == 2 and self.third == 'cannot be sent':
            return CannotBeSent()
        return torch.zeros(MB, dtype=torch.uint8)


class CannotBeSent:
    """As a tensor for which there is no shared memory left."""

    def __reduce__(self):
        raise RuntimeError('unable to allocate shared memory(shm) for file')


def collate(items):
    return items if isinstance(items[0], CannotBeSent) else torch.stack(items)


def loader(third=None, workers=2, **options):
    made = Runner.build_dataloader(
        dict(
            dataset=Images(third),
            sampler=dict(type='DefaultSampler', shuffle=False),
            batch_size=1 if third else 4,
            num_workers=workers,
            collate_fn=dict(type=collate),
            **options,
        )
    )
    guard_workers(made, 'timeout' in options)
    return made


@pytest.mark.parametrize(
    'third, message',
    [
        ('cannot be sent', r'a worker of train_dataloader has died.*--shm-size.*--resume'),
        ('dies', r'a worker of train_dataloader has died.*num_workers.*--resume'),
        ('sleeps', r'silent for the time limit \(train_dataloader.timeout.*storage.*--resume'),
    ],
)
def test_a_batch_that_does_not_come_ends_the_run(third, message):
    with (
        pytest.raises(RuntimeError, match=message),
        readable_loader_errors('train_dataloader'),
    ):
        list(loader(third, timeout=5))


def test_a_death_that_is_told_while_another_error_of_it_ends_the_block(monkeypatch):
    """The pipe of a dead worker breaks first; then torch's signal handler may run anywhere."""

    def told(seconds):
        raise RuntimeError('DataLoader worker (pid 7) exited unexpectedly with exit code 1.')

    monkeypatch.setattr(loading.time, 'sleep', told)
    with (
        pytest.raises(RuntimeError, match=r'^a worker of x has died .*--resume'),
        readable_loader_errors('x'),
    ):
        raise EOFError


def test_other_errors_stay_as_they_are():
    with pytest.raises(RuntimeError, match='^mine$'), readable_loader_errors('x'):
        raise RuntimeError('mine')


def test_the_time_limit_is_there_unless_one_is_given():
    assert loader().timeout == SILENCE
    assert loader(timeout=7).timeout == 7
    assert loader(workers=0).timeout == 0
    assert len(list(loader())) == 2


@pytest.mark.parametrize('free, processes, fits', [(21, 1, True), (19, 1, False), (39, 2, False)])
def test_batches_on_their_way_are_measured_against_what_is_free(free, processes, fits, monkeypatch):
    """2 workers x 2 batches ahead and the one in use, of 4 MB each."""
    usage = SimpleNamespace(free=free * MB, total=64 * MB)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
    monkeypatch.setattr(loading, 'SHARED_MEMORY', '/')
    monkeypatch.setenv('LOCAL_WORLD_SIZE', str(processes))
    if fits:
        check_shared_memory(loader(), 'train_dataloader')
        return
    with pytest.raises(SettingsError) as error:
        check_shared_memory(loader(), 'train_dataloader')
    message = str(error.value)
    assert f'{free} MB free' in message and f'need {20 * processes} MB' in message
    assert f'--shm-size={25 * processes}m' in message
    assert 'at most 1 train_dataloader.num_workers' in message
    check_shared_memory(loader(workers=0), 'train_dataloader')


def test_measuring_draws_nothing():
    before = torch.get_rng_state()
    assert bytes_of_a_batch(loader()) == 4 * MB
    assert torch.equal(before, torch.get_rng_state())
    broken = loader()
    broken.collate_fn = None
    assert bytes_of_a_batch(broken) == 0
