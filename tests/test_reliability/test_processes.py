"""Many processes compute what one would with all their images."""

import os
import subprocess
import sys

import pytest
import torch
from runs import (
    ROOT,
    SERVER,
    assert_same_tensors,
    final,
    finish,
    make_images,
    records,
    run_processes,
    start,
    terms,
    tiny_config,
)
from torch import distributed as dist

from plrc_plugin.models.shuffled_batch import draw_order, redistribute

# Sums are taken in another order. That is 1e-6 until rounding decides a ReLU, which the gradients
# of so small a network feel.
TOLERANCE = dict(rtol=2e-4, atol=2e-4)


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp('data') / 'images', count=24)


def config(images, work_dir, processes, *hooks, fixed=True, **options):
    cfg = tiny_config(
        images,
        work_dir,
        **{
            'train_dataloader.batch_size': 8 // processes,
            'model.negatives': 'ranks',
            'default_hooks.checkpoint.by_epoch': False,
            'default_hooks.checkpoint.interval': 2,
            **options,
        },
    )
    cfg.custom_hooks += [dict(type='FixedStatisticsHook')] * fixed + list(hooks)
    return cfg


@pytest.fixture(scope='module')
def one_process(images, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('one')
    assert finish(start(config(images, work_dir, 1))) == ''
    return work_dir


@pytest.mark.parametrize('processes', [2, 4])
def test_as_one_process_with_all_images(processes, images, one_process, tmp_path):
    assert run_processes(config(images, tmp_path, processes), processes) == [''] * processes
    whole, logged = records(one_process), records(tmp_path)
    assert list(logged) == list(whole)
    for iteration, lines in whole.items():
        expected = terms(lines[0])
        del expected['std']  # of a rank's own batch
        found = terms(logged[iteration][0])
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, msg=f'{name} {iteration}', **TOLERANCE)
        read = set.union(
            *(
                set(records(tmp_path, r)[iteration][0].split()[3].split(','))
                for r in range(processes)
            )
        )
        assert read == set(lines[0].split()[3].split(','))
    expected, states = (
        final(one_process)['model'],
        [final(tmp_path, r)['model'] for r in range(processes)],
    )
    for state in states:  # every rank the same, bit for bit, the queue included
        assert_same_tensors(state, states[0])
    for name, value in expected.items():
        if name != 'queue.bank':
            torch.testing.assert_close(states[0][name], value, msg=name, **TOLERANCE)
    # The keys of a step lie by rank, those of one process as the sampler dealt them.
    dealt = torch.arange(8).view(8 // processes, processes).T.flatten()
    banks = [bank[:40].view(5, 8, -1) for bank in (expected['queue.bank'], states[0]['queue.bank'])]
    torch.testing.assert_close(banks[1], banks[0][:, dealt], **TOLERANCE)


def test_batch_statistics_of_processes_differ_by_design(images, one_process, tmp_path):
    """Each rank normalises its own images, the key pass those of all: close, not equal."""
    cfg = config(images, tmp_path / 'two', 2, fixed=False)
    assert run_processes(cfg, 2) == ['', '']
    assert finish(start(config(images, tmp_path / 'one', 1, fixed=False))) == ''
    for name in ('l_c', 'l_m'):
        two, one = (terms(records(tmp_path / d)[0][0])[name] for d in ('two', 'one'))
        assert two != one and two == pytest.approx(one, rel=0.25)


def redistribute_rows(rank, store):
    dist.init_process_group('gloo', rank=rank, world_size=3, init_method=f'file://{store}')
    assert sorted(draw_order(12).tolist()) == list(range(12))
    for step in range(5):
        order = torch.randperm(12, generator=torch.Generator().manual_seed(step))
        maps = torch.arange(12.0 * 24).view(12, 2, 3, 4)
        for rows in (
            torch.arange(48.0).view(12, 4),
            maps,
            maps.contiguous(memory_format=torch.channels_last),
        ):
            mine = rows[rank * 4 : rank * 4 + 4]
            there = redistribute(mine, order)
            assert torch.equal(there, rows[order[rank * 4 : rank * 4 + 4]])
            assert there.stride() == mine.stride()
            assert torch.equal(redistribute(there, order.argsort()), mine)


def test_redistribution_is_a_permutation_of_all_rows(tmp_path):
    children = [
        SERVER.Process(target=redistribute_rows, args=(rank, tmp_path / 'store'))
        for rank in range(3)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]


@pytest.mark.parametrize('rank', [1, None])
def test_images_without_common_region_stall_no_process(rank, images, tmp_path):
    cfg = config(images, tmp_path, 2, dict(type='NoCommonRegionHook', rank=rank))
    assert run_processes(cfg, 2) == ['', '']
    logged = [terms(lines[0]) for lines in records(tmp_path).values()]
    assert len(logged) == 6
    assert all(t['no_common_region'] >= 0.5 for t in logged)
    # By chance the images of the other rank may have none in common either, but not every time.
    assert any(t['l_c'] > 0 for t in logged) == (rank is not None)


def test_last_batch_smaller_than_the_others(images, tmp_path):
    cfg = config(images, tmp_path, 2, **{'train_dataloader.batch_size': 5})
    cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel')
    cfg.train_dataloader.drop_last = False  # 12 images per process: 5, 5, 2
    assert run_processes(cfg, 2) == ['', '']
    sizes = [len(lines[0].split()[3].split(',')) for lines in records(tmp_path).values()]
    assert sizes == [5, 5, 2, 5, 5, 2]
    assert_same_tensors(final(tmp_path, 0)['model'], final(tmp_path, 1)['model'])


def test_process_that_died_and_resume(images, tmp_path):
    """Bit for bit, with batch statistics shuffled over the processes and dropout on each."""
    options = {'model.backbone.type': 'NoisyResNet'}
    whole = config(images, tmp_path / 'whole', 2, fixed=False, **options)
    assert run_processes(whole, 2) == ['', '']
    cfg = config(
        images,
        tmp_path / 'died',
        2,
        dict(type='DieOnceHook', rank=1, iteration=3),
        fixed=False,
        resume=True,
        **options,
    )
    first = run_processes(cfg, 2)
    assert first[1] == 'killed' and first[0]
    assert run_processes(cfg, 2) == ['', '']
    for rank in range(2):
        assert_same_tensors(final(tmp_path / 'died', rank), final(tmp_path / 'whole', rank))


def test_goes_on_with_fewer_processes(images, tmp_path):
    cfg = config(images, tmp_path, 2, dict(type='DieOnceHook', rank=0, iteration=2), resume=True)
    assert run_processes(cfg, 2)[0] == 'killed'
    seen = {
        name
        for r in range(2)
        for i in (0, 1)
        for name in records(tmp_path, r)[i][0].split()[3].split(',')
    }
    cfg = config(images, tmp_path, 2, resume=True)  # 4 images in one process
    cfg.train_cfg.max_epochs = 1
    assert finish(start(cfg)) == ''
    after = {
        name
        for i, lines in records(tmp_path).items()
        if i >= 4
        for name in lines[-1].split()[3].split(',')
    }
    assert len(seen) == 16 and len(after) == 8 and not seen & after


@pytest.mark.skipif('PLRC_FAULTS' not in os.environ, reason='a minute: make test-faults runs it')
def test_torchrun_restarts_and_resumes_by_itself(images, tmp_path):
    whole, died = tmp_path / 'whole', tmp_path / 'died'
    for work_dir in (whole, died):
        cfg = config(images, work_dir, 2, fixed=False)
        cfg.custom_imports.imports.append('runs')
        if work_dir == died:
            cfg.custom_hooks.append(dict(type='DieOnceHook', rank=1, iteration=3))
        cfg.dump(str(work_dir) + '.py')
        command = [
            'torch.distributed.run',
            '--nproc-per-node=2',
            '--max-restarts=2',
            '--rdzv-backend=c10d',
            '--rdzv-endpoint=localhost:0',
            str(ROOT / 'tools/train.py'),
            f'{work_dir}.py',
            '--work-dir',
            str(work_dir),
            '--launcher',
            'pytorch',
            '--resume',
        ]
        done = subprocess.run(
            [sys.executable, '-m', *command],
            capture_output=True,
            text=True,
            timeout=1200,
            env={**os.environ, 'OMP_NUM_THREADS': '1', 'TORCH_DISABLE_SHARE_RDZV_TCP_STORE': '1'},
        )
        assert 'wait for them for ever' not in done.stderr
        assert done.returncode == 0, done.stderr[-3000:]
    assert (died / 'died').exists()
    for rank in range(2):
        assert_same_tensors(final(died, rank), final(whole, rank))


def test_processes_with_different_batches_are_refused(images, tmp_path):
    cfg = config(images, tmp_path, 2)
    cfg.train_dataloader.sampler.round_up = False
    assert all('SettingsError' in error and 'round_up' in error for error in run_processes(cfg, 2))
