"""tools/train.py as people start it: what it shows, refuses, and leaves when it is ended."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT
from runs import TINY, make_images

pytestmark = pytest.mark.slow
OPTIONS = {
    **TINY,
    'default_hooks.logger.interval': 50,
}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp('data') / 'images', count=8)


def command(images, work_dir, *flags, **options):
    given = {**OPTIONS, 'train_dataloader.dataset.data_root': images, **options}
    values = [f'{k}={str(v).replace(" ", "")}' for k, v in given.items()]
    config = str(ROOT / 'configs' / 'plrc_in1k.py')
    train = [sys.executable, str(ROOT / 'tools' / 'train.py'), config]
    return [*train, '--work-dir', str(work_dir), *flags, '--cfg-options', *values]


def environment(**more):
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    return {**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1', **more}


def run(images, work_dir, *flags, env=None, **options):
    done = subprocess.run(
        command(images, work_dir, *flags, **options),
        capture_output=True,
        text=True,
        timeout=300,
        env=environment(**(env or {})),
    )
    return done.returncode, done.stdout, done.stderr.strip().splitlines()


@pytest.fixture(scope='module')
def finished(images, tmp_path_factory):
    """A run of two epochs, and what it said."""
    work_dir = tmp_path_factory.mktemp('finished') / 'run'
    code, said, errors = run(images, work_dir)
    assert code == 0, errors[-5:]
    return work_dir, said


def test_the_screen_says_what_there_is_to_do_and_what_came_of_it(finished):
    work_dir, said = finished
    for fact in (
        r'images +8',
        r'batch +4',
        r'length +2 epochs of 2 iterations: 4 iterations',
        r'queue +40 keys',
        r'device +cpu',
        rf'checkpoints every epoch.*in {work_dir}',
        r'Epoch\(train\) +\[1\]\[1/2\]',  # the first iteration, long before the interval ends
        r'finished: epoch 2, iteration 4; 4 iterations',
        rf'checkpoint +{work_dir}/epoch_2.pth',
        rf'mim run plrc_plugin report {work_dir}',
    ):
        assert re.search(fact, said), fact
    assert 'System environment' not in said and 'Config:' not in said
    log = next(work_dir.glob('*/*.log')).read_text()
    assert 'System environment' in log and 'train_dataloader' in log
    assert len(said.splitlines()) < 50


def test_a_second_run_leaves_no_trace(finished, images):
    work_dir, _ = finished
    before = {p: p.stat().st_mtime_ns for p in work_dir.rglob('*')}
    code, _, errors = run(images, work_dir)
    assert code == 2 and len(errors) == 1
    assert '--resume' in errors[0] and '--overwrite' in errors[0]
    assert {p: p.stat().st_mtime_ns for p in work_dir.rglob('*')} == before


def test_a_finished_run_resumed_says_that_nothing_is_left(finished, images):
    work_dir, _ = finished
    code, said, _ = run(images, work_dir, '--resume')
    assert code == 0 and 'nothing is left to train' in said and 'max_epochs=2' in said


def test_overwriting_begins_anew(images, tmp_path):
    torch.save({}, tmp_path / 'epoch_9.pth')
    (tmp_path / 'mine.txt').touch()
    code, said, _ = run(images, tmp_path, '--overwrite', **{'train_cfg.max_epochs': 1})
    assert code == 0 and 'epoch_9.pth of the earlier run is removed' in said
    assert (tmp_path / 'epoch_1.pth').exists() and (tmp_path / 'mine.txt').exists()
    assert not (tmp_path / 'epoch_9.pth').exists()


def started(images, work_dir, workers):
    """A long run, once its first checkpoint is there."""
    child = subprocess.Popen(
        command(
            images,
            work_dir,
            '--resume',
            **{
                'train_cfg.max_epochs': 100000,
                'train_dataloader.num_workers': workers,
                'train_dataloader.persistent_workers': workers > 0,
            },
        ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,  # a terminal's group of processes
    )
    deadline = time.monotonic() + 200
    while not list(work_dir.glob('epoch_*.pth')):
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    return child


@pytest.mark.parametrize(
    'number, code, word',
    [(signal.SIGINT, 130, 'interrupted'), (signal.SIGTERM, 143, 'ended by SIGTERM')],
)
def test_a_run_that_is_ended_says_how_it_goes_on_in_one_line(number, code, word, images, tmp_path):
    child = started(images, tmp_path, workers=2)
    if number == signal.SIGINT:
        os.killpg(child.pid, number)  # Ctrl-C reaches the workers too
    else:
        child.send_signal(number)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == code
    lines = [line for line in errors.strip().splitlines() if 'Warning' not in line]
    assert re.fullmatch(
        rf'{word}\. The newest checkpoint is .*epoch_\d+\.pth: go on with --r.*', lines[-1]
    )
    assert 'Traceback' not in errors
    assert run(images, tmp_path, '--resume', **{'train_cfg.max_epochs': 1})[0] == 0


def test_two_runs_at_once(images, tmp_path):
    child = started(images, tmp_path, workers=2)
    try:
        config = {p: p.read_bytes() for p in tmp_path.glob('*.py')}
        code, _, errors = run(images, tmp_path, '--resume', **{'train_cfg.max_epochs': 3})
        assert code == 2
        assert f'another run is at work in {tmp_path} (process {child.pid}' in errors[-1]
        assert {p: p.read_bytes() for p in tmp_path.glob('*.py')} == config
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
    # The workers of the dead run may live for some seconds; they hold nothing.
    newest = max(int(p.stem[6:]) for p in tmp_path.glob('epoch_*.pth'))
    assert run(images, tmp_path, '--resume', **{'train_cfg.max_epochs': newest + 2})[0] == 0


@pytest.mark.parametrize(
    'flags, options, said',
    [
        (['--launcher', 'pytorch'], {}, 'RANK is not set: torchrun'),
        ([], {'default_hooks.checkpoint.intervall': 5}, 'did you mean interval?'),
        ([], {'default_hooks.checkpoint.out_dir': 's3://bucket/x'}, 'copy the checkpoints after'),
        (['--work-dir', 's3://bucket/x'], {}, 'an object store is none'),
        (['--work-dir', '/proc/run'], {}, 'cannot be written'),
    ],
)
def test_what_cannot_work_is_one_line_and_exit_code_2(flags, options, said, images, tmp_path):
    work_dir = flags[1] if flags[:1] == ['--work-dir'] else tmp_path / 'run'
    more = flags if work_dir == tmp_path / 'run' else []
    code, _, errors = run(images, work_dir, *more, **options)
    assert code == 2 and errors[-1].startswith('error: ') and said in errors[-1]
    assert 'Traceback' not in '\n'.join(errors)


def test_a_user_id_without_a_name_trains(images, tmp_path):
    """Of a container; imitated by a module of passwords that knows nobody."""
    (tmp_path / 'sitecustomize.py').write_text(
        'import pwd\n'
        'def getpwuid(uid): raise KeyError(f"getpwuid(): uid not found: {uid}")\n'
        'pwd.getpwuid = getpwuid\n'
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get('PYTHONPATH', '')])
    env = dict(PYTHONPATH=path, USER='', LOGNAME='', LNAME='', USERNAME='')
    code, _, errors = run(images, tmp_path / 'run', env=env, **{'train_cfg.max_epochs': 1})
    assert code == 0, errors[-1]
