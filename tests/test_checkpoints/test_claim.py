"""A work dir belongs to one run."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from plrc_plugin.checkpoints import claim as module
from plrc_plugin.checkpoints.claim import (
    LOCK,
    check_unused,
    claim,
    claim_folders,
    folders_of,
    is_claimed,
    release,
    remove_checkpoints,
)
from plrc_plugin.errors import SettingsError

# Loads the file alone: importing the package takes seconds.
HOLDER = """
import importlib.util, os, sys, time, types
for name in ('plrc_plugin', 'plrc_plugin.checkpoints', 'mmengine', 'mmengine.dist'):
    sys.modules[name] = types.ModuleType(name)
dist = sys.modules['mmengine.dist']
dist.broadcast_object_list = dist.is_main_process = None
work_dir = sys.modules['plrc_plugin.checkpoints.work_dir'] = types.ModuleType('work_dir')
work_dir.BEST, work_dir.POINTER, work_dir.remove_if_there = 'best_', 'last_checkpoint', os.remove
work_dir.alike = work_dir.pointed_at = None
errors = sys.modules['plrc_plugin.errors'] = types.ModuleType('errors')
errors.SettingsError = ValueError
spec = importlib.util.spec_from_file_location('claim', sys.argv[1])
claim = importlib.util.module_from_spec(spec)
spec.loader.exec_module(claim)
claim.claim(sys.argv[2])
if len(sys.argv) > 3 and os.fork() == 0:  # a loader worker that outlives its run
    time.sleep(60)
print('held', flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that is at work in tmp_path."""
    started = []

    def start(*more):
        command = [sys.executable, '-S', '-c', HOLDER, module.__file__, str(tmp_path)]
        child = subprocess.Popen([*command, *more], stdout=subprocess.PIPE, start_new_session=True)
        assert child.stdout.readline() == b'held\n'
        started.append(child)
        return child

    yield start
    for child in started:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    release(tmp_path)


def test_a_second_run_is_refused_and_told_who_is_there(tmp_path, holder):
    child = holder()
    with pytest.raises(SettingsError, match=rf'process {child.pid} on .*another --work-dir'):
        claim(tmp_path)
    assert not is_claimed(tmp_path)


@pytest.mark.parametrize('workers', [(), ('fork',)])
def test_the_lock_of_a_dead_process_does_not_block(workers, tmp_path, holder):
    """Not even while a loader worker of it still lives."""
    child = holder(*workers)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    claim(tmp_path)
    assert is_claimed(tmp_path)


@pytest.mark.parametrize(
    'note',
    [
        dict(host='another-host', pid=1, since='2020-01-01 00:00:00', command='train.py'),
        dict(host=os.uname().nodename, pid=os.getpid(), since='2020-01-01 00:00:00'),
        dict(pid='?'),
        'no json',
    ],
)
def test_what_stands_in_a_lock_file_blocks_nobody(note, tmp_path):
    """Of another host, before a reboot, of a container in which the process had our number."""
    (tmp_path / LOCK).write_text(note if isinstance(note, str) else json.dumps(note))
    claim(tmp_path)
    assert json.loads((tmp_path / LOCK).read_text())['pid'] == os.getpid()
    release(tmp_path)


def test_waits_for_a_run_that_is_ending(tmp_path, holder):
    """A requeued job may begin before the one before has quite gone."""
    child = holder()
    subprocess.Popen(['sh', '-c', f'sleep 1; kill -9 {child.pid}'])
    claim(tmp_path, patience=30)
    assert is_claimed(tmp_path)


@pytest.mark.parametrize('failing', ['open', 'lockf'])
def test_file_systems_without_locks_run_and_say_so(failing, tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise OSError(38, 'Function not implemented')

    monkeypatch.setattr(os if failing == 'open' else module.fcntl, failing, fails)
    said = []
    logger = type('Logger', (), dict(warning=lambda self, text: said.append(text)))()
    claim(tmp_path, logger=logger)
    assert len(said) == 1 and 'cannot be locked (Function not implemented)' in said[0]


def test_one_process_claims_once_and_again_after_its_run(tmp_path):
    for _ in range(2):
        claim(tmp_path)
        claim(tmp_path)
        release(tmp_path)


def test_checkpoints_of_an_earlier_run_are_not_written_over(tmp_path):
    check_unused([tmp_path, tmp_path / 'not there'])
    for name in ('resnet50_200.pth', 'notes.txt', '20260101_120000.log', 'epoch_.pth'):
        (tmp_path / name).touch()
    check_unused([tmp_path])  # what users keep there is no checkpoint of a run
    for name in ('epoch_3.pth', 'iter_2000.pth', 'best_knn_mIoU_epoch_3.pth'):
        (tmp_path / name).touch()
        with pytest.raises(SettingsError, match=r'--resume.*--work-dir.*--overwrite'):
            check_unused([tmp_path])
        claim_folders([tmp_path], resume=True, overwrite=False)
        release(tmp_path)
        (tmp_path / name).unlink()


def test_checkpoints_of_any_name_are_noticed(tmp_path):
    """``filename_tmpl`` may be anything; the pointer of the earlier run tells what it was."""
    work_dir, out_dir = tmp_path / 'run', tmp_path / 'all'
    for folder in (work_dir, out_dir):
        folder.mkdir()
    names = ['ckpt-9.pt', 'ckpt-10.pt', 'best_knn_ckpt-9.pt']
    for name in [*names, 'ckpt-x.pt', 'notes-1.txt']:
        (out_dir / name).touch()
    (work_dir / 'last_checkpoint').write_text(str(out_dir / 'ckpt-10.pt'))
    with pytest.raises(SettingsError, match='holds 3 checkpoints of an earlier run'):
        check_unused([work_dir, out_dir])
    removed = remove_checkpoints([work_dir, out_dir])
    assert {os.path.basename(path) for path in removed} == set(names)
    assert {p.name for p in out_dir.iterdir()} == {'ckpt-x.pt', 'notes-1.txt'}
    check_unused([work_dir, out_dir])


def test_overwriting_is_an_explicit_wish_and_removes_checkpoints_alone(tmp_path):
    for name in ('epoch_1.pth', 'last_checkpoint', 'mine.pth', 'curves.png'):
        (tmp_path / name).touch()
    claim_folders([tmp_path], resume=False, overwrite=True)
    release(tmp_path)
    remove_checkpoints([tmp_path])
    assert {p.name for p in tmp_path.iterdir()} == {'mine.pth', 'curves.png', LOCK}
    with pytest.raises(SettingsError, match='--resume.*--overwrite'):
        claim_folders([tmp_path], resume=True, overwrite=True)


def test_the_folder_of_out_dir_counts_too():
    hooks = dict(checkpoint=dict(type='x', out_dir='/all'))
    assert folders_of(dict(work_dir='/w/run', default_hooks=hooks)) == ['/w/run', '/all/run']
    assert folders_of(dict(work_dir='/w/run', default_hooks=dict(checkpoint=None))) == ['/w/run']
