"""``python -m plrc_plugin doctor``, in processes of its own: it works where little else does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from plrc_plugin.commands import doctor

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments, first_on_path: Path = ROOT):
    paths = os.pathsep.join([str(first_on_path), str(ROOT), os.environ.get('PYTHONPATH', '')])
    return subprocess.run(
        [sys.executable, '-W', 'ignore', '-m', 'plrc_plugin', *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': paths},
        check=False,
    )


@pytest.mark.stack
def test_says_on_one_screen_that_pre_training_works():
    done = run('doctor')
    assert done.returncode == 0, done.stderr
    assert 'yes pre-training' in done.stdout
    assert '/dev/shm' in done.stdout and 'torch ' in done.stdout
    assert len(done.stdout.splitlines()) < 50


@pytest.mark.parametrize('missing', ['mmengine', 'lightly'])
def test_names_what_is_missing_and_the_line_that_installs_it(missing, tmp_path):
    (tmp_path / f'{missing}.py').write_text(
        f'raise ModuleNotFoundError("No module named {missing!r}", name={missing!r})'
    )
    done = run('doctor', first_on_path=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert 'no  pre-training' in done.stdout
    assert f'{missing}: No module named' in done.stdout
    assert "pip install 'plrc_plugin[" in done.stdout


def test_two_distributions_at_once_are_named(monkeypatch):
    versions = {'onedl-mmengine': '0.10.12', 'mmengine': '0.10.7'}
    monkeypatch.setattr(doctor, 'version_of', versions.get)
    line = next(line for line in doctor.packages() if 'mmengine' in line)
    assert 'onedl-mmengine 0.10.12 and mmengine 0.10.7' in line and 'BOTH' in line


def test_operators_that_mmcv_lacks_cost_no_exit_code(monkeypatch):
    monkeypatch.setattr(
        doctor, 'why_not', lambda name: 'mmcv._ext: not there' if name == 'mmcv._ext' else None
    )
    lines, works = doctor.offers()
    assert works and '  no  operators of mmcv' in lines and '  yes pre-training' in lines
    assert any('MMCV_WITH_OPS=1' in line for line in lines)


def test_an_unknown_command_lists_those_there_are():
    done = run('operate')
    assert done.returncode == 2 and 'doctor' in done.stderr
