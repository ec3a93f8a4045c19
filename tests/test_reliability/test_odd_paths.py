"""Folders of any name, for data, work dirs and checkpoints, in every tool."""

import io
import os
import runpy
import sys

import pytest
from conftest import ROOT
from runs import TINY, make_images

from plrc_plugin.__main__ import main as plrc_plugin_main

pytestmark = pytest.mark.slow
ODD = '-it\'s "a=b", 100% #1 {x} $HOME \\n ~ [z] (1);&|*? '  # ends with a space
BYTES = os.fsdecode(b'caf\xe9 \xff')  # no UTF-8
CONFIG = ROOT / 'configs' / 'plrc_in1k.py'


@pytest.fixture
def run(monkeypatch):
    """Runs a tool, or a command of the package, in this process: exit code and what it said."""

    def run(name, *words):
        screen = io.TextIOWrapper(io.BytesIO(), encoding='utf-8', write_through=True)
        with monkeypatch.context() as patch:
            patch.setattr(sys, 'argv', [name, *map(str, words)])
            patch.setattr(sys, 'stdout', screen)
            patch.setattr(sys, 'stderr', screen)
            screen.reconfigure(errors='backslashreplace')  # as Python opens stderr
            try:
                if name.endswith('.py'):
                    runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')
                    code = 0
                else:
                    code = plrc_plugin_main([name, *map(str, words)])
            except SystemExit as done:
                code = done.code or 0
        return code, screen.buffer.getvalue().decode().strip()

    return run


@pytest.fixture
def options():
    return ['--cfg-options', *(f'{k}={str(v).replace(" ", "")}' for k, v in TINY.items())]


def test_a_run_and_the_tools_that_look_at_it(run, options, tmp_path, monkeypatch):
    here = tmp_path / ODD
    images = make_images(here / 'images' / ODD, count=8).parent
    data, work_dir = f'train_dataloader.dataset.data_root={images}', here / 'run'
    epochs = 'train_cfg.max_epochs='
    monkeypatch.setenv('PLRC_DATA_ROOT', str(images))
    first, last = work_dir / 'epoch_1.pth', work_dir / 'epoch_2.pth'
    start = [f'pretrained={last}', f'default_hooks.checkpoint.out_dir={here}/out', f'{epochs}1']
    drawn = ['--checkpoints', first, work_dir, '--count', '2', '--size', '64']
    commands = [
        ('train.py', CONFIG, '--work-dir', work_dir, *options, f'{epochs}1'),
        ('train.py', work_dir, '--resume', '--cfg-options', data, f'{epochs}2'),
        ('train.py', CONFIG, '--work-dir', here / 'from', '--resume', first, *options, data),
        ('train.py', CONFIG, '--work-dir', here / 'pretrained', *options, data, *start),
        ('export_checkpoint.py', work_dir, here / 'exported.pth', '--to', 'plrc'),
        ('report.py', work_dir),
        ('plot_losses.py', work_dir),
        ('affinity_maps.py', work_dir, images, *drawn, '--out', here / 'affinity.png'),
        ('inspect', images, '--out', here / 'look'),
    ]
    for command in commands:
        code, said = run(*command)
        assert code == 0, said[-800:]
    for made in ('run/epoch_2.pth', 'from/epoch_2.pth', 'out/pretrained/epoch_1.pth'):
        assert (here / made).is_file(), made
    for made in ('exported.pth', 'run/report.html', 'run/losses.png', 'affinity.png', 'look'):
        assert (here / made).exists(), made


def test_names_that_are_no_text(run, options, tmp_path, monkeypatch):
    """Data and checkpoints are read; a run's own folder, which its records name, is refused."""
    here = tmp_path / BYTES
    images = make_images(here / 'images', count=8)
    work_dir, data = tmp_path / 'run', f'train_dataloader.dataset.data_root={images}'
    monkeypatch.setenv('PLRC_DATA_ROOT', str(images))
    code, said = run('train.py', CONFIG, '--work-dir', work_dir, *options)
    assert code == 0 and 'Logging error' not in said, said[-800:]
    os.rename(work_dir / 'epoch_1.pth', here / 'epoch_1.pth')
    for more in (['--resume', here / 'epoch_1.pth'], []):
        given = [f'pretrained={here}/epoch_1.pth'] * (not more)
        code, said = run(
            'train.py', CONFIG, '--work-dir', tmp_path / f'b{len(more)}', *more, *options, data,
            *given,
        )  # fmt: skip
        assert code == 0 and 'Logging error' not in said, said[-800:]
    code, said = run('inspect', images, '--out', here / 'look')
    assert code == 0, said[-800:]
    for folder in (['--work-dir', here / 'run', *options],
                   [*options, f'default_hooks.checkpoint.out_dir={here}/out']):  # fmt: skip
        code, said = run('train.py', CONFIG, *folder, f'work_dir={tmp_path}/c', data)
        assert code == 2 and 'bytes that are no UTF-8' in said.splitlines()[-1], said[-800:]
    assert sorted(os.listdir(here)) == ['epoch_1.pth', 'images', 'look']


def test_a_home_folder_that_no_shell_has_put_in(run, options, tmp_path, monkeypatch):
    images = make_images(tmp_path / 'images', count=8)
    monkeypatch.chdir(tmp_path)
    data = f'train_dataloader.dataset.data_root={images}'
    code, said = run('train.py', CONFIG, '--work-dir', '~/run', *options, data)
    assert code == 2 and said.splitlines()[-1].endswith(os.path.expanduser('~/run'))
    assert not (tmp_path / '~').exists()
