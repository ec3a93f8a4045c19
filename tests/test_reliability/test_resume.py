"""A run that was killed and resumed equals one that was not, bit for bit."""

import functools
import os
import random
import shutil
import signal
import time

import pytest
import torch
from runs import (
    ROOT,
    SERVER,
    Config,
    assert_same_run,
    finish,
    limit_files,
    make_images,
    records,
    start,
    tiny_config,
)
from runs import final as load_final

from plrc_plugin.checkpoints.safe_reading import damage_of
from plrc_plugin.checkpoints.work_dir import newest_intact_checkpoint

# `make test-faults` asks for many.
KILLS = int(os.environ.get('PLRC_FAULTS', 3))
EVERY_ITER = {'default_hooks.checkpoint.by_epoch': False, 'default_hooks.checkpoint.interval': 2}
NOISY = {'model.backbone.type': 'NoisyResNet'}
WORKERS = {'train_dataloader.num_workers': 2, 'train_dataloader.persistent_workers': True}
SETTINGS = {
    'iterations': {**EVERY_ITER, **NOISY, **WORKERS},
    'epochs': NOISY,
    # 5 iterations per epoch: an epoch ends between two steps.
    'accumulation': {
        **EVERY_ITER,
        'default_hooks.checkpoint.interval': 1,
        'optim_wrapper.accumulative_counts': 3,
    },
    'accumulation_epochs': {'optim_wrapper.accumulative_counts': 3},
    # So large a scale overflows: steps are skipped, and it halves.
    'float16': {
        **EVERY_ITER,
        'optim_wrapper.type': 'plrc_plugin.MixedPrecisionOptimWrapper',
        'optim_wrapper.dtype': 'float16',
        'default_hooks.checkpoint.interval': 1,
        'optim_wrapper.loss_scale': dict(init_scale=2.0**24, growth_interval=2),
    },
}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp('data') / 'images')


@pytest.fixture(scope='module')
def whole(images, tmp_path_factory):
    """Work dirs of uninterrupted runs, by setting, and their time."""
    first = SERVER.Process(target=int)  # waits for the server's imports, which are no part of a run
    first.start()
    first.join()

    @functools.cache
    def run(name):
        scaled = hasattr(torch.amp, 'GradScaler') or torch.cuda.is_available()
        if name == 'float16' and not scaled:
            pytest.skip('before torch 2.3 no float16 losses are scaled on the CPU')
        work_dir = tmp_path_factory.mktemp(name)
        began = time.monotonic()
        assert finish(start(tiny_config(images, work_dir, **SETTINGS[name]))) == ''
        return work_dir, time.monotonic() - began

    return run


def kill_at(point: str, count: int) -> None:
    """Kills this process at the ``count``-th time that a checkpoint reaches ``point``."""
    from mmengine.fileio import LocalBackend

    from plrc_plugin.engine.hooks import checkpoint

    seen = [0]

    def die():
        seen[0] += 1
        if seen[0] == count:
            os.kill(os.getpid(), signal.SIGKILL)

    put, publish, remove = LocalBackend.put, checkpoint.publish, checkpoint.remove_if_there

    def broken_put(self, data, path):
        if point == 'half written':
            put(self, data[: len(data) // 2], path)
            die()
        put(self, data, path)
        if point == 'written':
            die()

    def broken_publish(path):
        publish(path)
        if point == 'renamed' and path.endswith('.pth'):
            die()
        if point == 'pointed at' and not path.endswith('.pth'):
            die()

    def broken_remove(path):
        remove(path)
        if point == 'old removed':
            die()

    LocalBackend.put = broken_put
    checkpoint.publish, checkpoint.remove_if_there = broken_publish, broken_remove


def test_settings_reach_what_they_are_for(whole):
    batches = {
        line.split()[2] for lines in records(whole('iterations')[0]).values() for line in lines
    }
    assert batches == {'0', '1', '2', '3', '4'}


def test_so_large_a_scale_skips_steps(whole):
    final = load_final(whole('float16')[0])
    assert final['optimizer']['loss_scaler']['scale'] < 2.0**24  # steps were skipped
    assert final['optimizer']['state']  # and some were not


@pytest.mark.parametrize('name', SETTINGS)
def test_killed_at_random_moments(name, images, whole, tmp_path):
    work_dir, duration = whole(name)
    kills = 0
    rng = random.Random(name)
    while kills < -(-KILLS // len(SETTINGS)):
        cfg = tiny_config(images, tmp_path, resume=True, **SETTINGS[name])
        child = start(cfg)
        child.join(rng.uniform(0.1, 1) * duration)
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        ended = finish(child)
        assert ended in ('', 'killed')
        if not ended:  # it was quicker than the kill: begin another run
            assert_same_run(tmp_path, work_dir)
            for path in tmp_path.iterdir():
                path.is_file() and path.unlink()
    assert finish(start(tiny_config(images, tmp_path, resume=True, **SETTINGS[name]))) == ''
    assert_same_run(tmp_path, work_dir)


@pytest.mark.parametrize(
    'point', ['half written', 'written', 'renamed', 'pointed at', 'old removed']
)
def test_killed_while_a_checkpoint_is_made(point, images, whole, tmp_path):
    cfg = tiny_config(images, tmp_path, resume=True, **SETTINGS['iterations'])
    assert finish(start(cfg, functools.partial(kill_at, point, 2))) == 'killed'
    kept = newest_intact_checkpoint(str(tmp_path))
    assert kept is not None and damage_of(kept) is None
    assert finish(start(cfg)) == ''
    assert_same_run(tmp_path, whole('iterations')[0])
    assert sorted(p.name for p in tmp_path.glob('*.pth*')) == [
        'iter_10.pth',
        'iter_6.pth',
        'iter_8.pth',
    ]
    assert not list(tmp_path.glob('*being_written'))


@pytest.mark.stack
@pytest.mark.parametrize('damage', ['cut off', 'one bit', 'empty', 'removed'])
def test_damaged_checkpoint_is_passed_over(damage, images, whole, tmp_path):
    options = {
        **SETTINGS['iterations'],
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
    }
    cfg = tiny_config(images, tmp_path, **options)
    assert finish(start(cfg, functools.partial(kill_at, 'pointed at', 3))) == 'killed'
    newest = tmp_path / 'iter_6.pth'
    data = bytearray(newest.read_bytes())
    if damage == 'one bit':
        data[len(data) // 2] ^= 1
    newest.write_bytes(
        dict(empty=b'').get(damage, data[: len(data) // 2] if damage == 'cut off' else bytes(data))
    )
    if damage == 'removed':
        newest.unlink()
    cfg.resume = True
    assert finish(start(cfg)) == ''
    logs = ''.join(path.read_text() for path in tmp_path.rglob('*.log'))
    assert f'{newest} is passed over: ' in logs and 'iter_4.pth' in logs
    assert len(records(tmp_path)[4]) == 2  # run again, from iter_4
    assert_same_run(tmp_path, whole('iterations')[0])


def test_named_damaged_checkpoint_is_an_error(images, tmp_path):
    (tmp_path / 'broken.pth').write_bytes(b'PK\x03\x04 nothing')
    cfg = tiny_config(images, tmp_path, resume=True, load_from=str(tmp_path / 'broken.pth'))
    error = finish(start(cfg))
    assert error.startswith('SettingsError: resume from') and 'cut off, or no checkpoint' in error


def test_work_dir_of_damaged_checkpoints_only_is_an_error(images, tmp_path):
    (tmp_path / 'iter_3.pth').write_bytes(b'PK\x03\x04 nothing')
    error = finish(start(tiny_config(images, tmp_path, resume=True)))
    assert error.startswith('SettingsError: resume: none of the 1 checkpoints of')
    assert 'iter_3.pth: it is cut off, or no checkpoint' in error
    assert (tmp_path / 'iter_3.pth').read_bytes() == b'PK\x03\x04 nothing'


def test_images_already_seen_are_not_read_again(images, tmp_path):
    cfg = tiny_config(images, tmp_path, **EVERY_ITER)
    assert finish(start(cfg, functools.partial(kill_at, 'pointed at', 1))) == 'killed'
    cfg = tiny_config(images, tmp_path, resume=True, **EVERY_ITER)
    cfg.train_cfg.max_epochs = 1
    assert finish(start(cfg, functools.partial(note_opened_files, tmp_path / 'opened.txt'))) == ''
    opened = set((tmp_path / 'opened.txt').read_text().split())
    seen = {i: set(lines[-1].split()[3].split(',')) for i, lines in records(tmp_path).items()}
    assert opened == seen[2] | seen[3] | seen[4] and not opened & (seen[0] | seen[1])


def note_opened_files(path) -> None:
    from plrc_plugin.views import opening

    file_class = opening.ImageFile

    def noting(name, *window):
        with open(path, 'a') as file:
            file.write(os.path.basename(name) + '\n')
        return file_class(name, *window)

    opening.ImageFile = noting


def test_full_disk_ends_the_run_and_keeps_the_last_checkpoint(images, whole, tmp_path):
    cfg = tiny_config(images, tmp_path, **SETTINGS['iterations'])
    assert finish(start(cfg, functools.partial(kill_at, 'pointed at', 3))) == 'killed'
    size = (tmp_path / 'iter_6.pth').stat().st_size
    cfg.resume = True
    error = finish(start(cfg, functools.partial(limit_files, size // 2)))
    assert error.startswith('RuntimeError:') and 'iter_8.pth cannot be written' in error
    assert 'Earlier checkpoints are intact' in error
    assert newest_intact_checkpoint(str(tmp_path)) == str(tmp_path / 'iter_6.pth')
    assert not list(tmp_path.glob('*being_written'))
    assert finish(start(cfg)) == ''
    assert_same_run(tmp_path, whole('iterations')[0])


def test_full_disk_met_by_the_shipped_visualizer_ends_the_run(images, tmp_path):
    cfg = tiny_config(images, tmp_path, **EVERY_ITER)
    cfg.visualizer = Config.fromfile(ROOT / 'configs/plrc_in1k.py').visualizer
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook['type'] != 'RecordHook']
    cfg.custom_hooks.append(dict(type='FullDiskHook', iteration=2))
    error = finish(start(cfg))
    assert error.startswith('RuntimeError: the run cannot write its records any more: [Errno 27]')
    assert 'Checkpoints are intact' in error
    assert newest_intact_checkpoint(str(tmp_path)) == str(tmp_path / 'iter_2.pth')


@pytest.mark.stack
def test_moved_work_dir_goes_on_from_its_own_files(tmp_path):
    old, new = tmp_path / 'old', tmp_path / 'new'
    old.mkdir()
    for step in (1, 2):
        torch.save(dict(meta={}, state_dict={}, message_hub={}), old / f'iter_{step}.pth')
    (old / 'last_checkpoint').write_text(str(old / 'iter_2.pth'))
    shutil.copytree(old, new)
    assert newest_intact_checkpoint(str(new)) == str(new / 'iter_2.pth')
    shutil.rmtree(old)
    (new / 'iter_2.pth').write_bytes(b'')
    assert newest_intact_checkpoint(str(new)) == str(new / 'iter_1.pth')
    # Checkpoints of another folder (out_dir) are still found.
    (tmp_path / 'logs').mkdir()
    (tmp_path / 'logs' / 'last_checkpoint').write_text(str(new / 'iter_1.pth'))
    assert newest_intact_checkpoint(str(tmp_path / 'logs')) == str(new / 'iter_1.pth')


def test_seed_comes_from_the_checkpoint(images, tmp_path):
    drawn = tiny_config(
        images, tmp_path / 'drawn', resume=True, **EVERY_ITER, **{'randomness.seed': None}
    )
    assert finish(start(drawn, functools.partial(kill_at, 'pointed at', 1))) == 'killed'
    seed = torch.load(tmp_path / 'drawn/iter_2.pth', weights_only=True)['meta']['seed']
    assert finish(start(drawn)) == ''
    given = tiny_config(images, tmp_path / 'given', **EVERY_ITER, **{'randomness.seed': seed})
    assert finish(start(given)) == ''
    assert_same_run(tmp_path / 'drawn', tmp_path / 'given')
    drawn.randomness.seed = seed + 1
    error = finish(start(drawn))
    assert error.startswith(
        f'SettingsError: randomness.seed={seed + 1}, and the checkpoint was made with {seed}'
    )


def test_no_epoch_repeats_augmentations_and_workers_change_nothing(images, whole, tmp_path):
    options = {
        **SETTINGS['iterations'],
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
    }
    assert finish(start(tiny_config(images, tmp_path, **options))) == ''
    assert_same_run(tmp_path, whole('iterations')[0])
    views = [lines[0].split()[4] for lines in records(tmp_path).values()]
    assert len(set(views)) == len(views) == 10


def test_a_run_with_mmengines_sampler_goes_on_in_the_middle(images, tmp_path):
    cfg = tiny_config(images, tmp_path, **EVERY_ITER)
    cfg.train_dataloader.sampler.type = 'DefaultSampler'
    cfg.train_cfg.max_epochs = 1
    assert finish(start(cfg, functools.partial(kill_at, 'pointed at', 1))) == 'killed'
    cfg.resume = True
    assert finish(start(cfg)) == ''
    images_of = [set(lines[-1].split()[3].split(',')) for lines in records(tmp_path).values()]
    assert len(set.union(*images_of)) == 20


def test_another_batch_size_goes_on_from_the_same_image(images, tmp_path):
    cfg = tiny_config(images, tmp_path, **EVERY_ITER)
    cfg.train_cfg.max_epochs = 1
    assert finish(start(cfg, functools.partial(kill_at, 'pointed at', 2))) == 'killed'
    seen = [
        name for lines in records(tmp_path).values() for name in lines[-1].split()[3].split(',')
    ]
    (tmp_path / 'losses_0.txt').unlink()
    cfg.resume, cfg.train_dataloader.batch_size = True, 2
    assert finish(start(cfg)) == ''
    after = [
        name for lines in records(tmp_path).values() for name in lines[-1].split()[3].split(',')
    ]
    assert len(seen) == 16 and len(after) == 6 and not set(seen) & set(after)
    assert sorted(records(tmp_path)) == [8, 9, 10]
    assert 'resuming at iteration 8 of epoch 1' in ''.join(
        p.read_text() for p in tmp_path.rglob('*.log')
    )
