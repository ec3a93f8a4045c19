"""The error is the last thing on the screen, and the screen holds what people read."""

import logging
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from plrc_plugin.errors import InputError, SettingsError
from plrc_plugin.terminal import (
    LINES,
    Terminated,
    explain_missing,
    name_the_user,
    one_line_errors,
    only_in_files,
    shorten,
)

WAYS = [
    (SettingsError('size=3 is too small'), 2, 'error: size=3 is too small'),
    (InputError('a.png is no image'), 2, 'error: a.png is no image'),
    (PermissionError(13, 'Permission denied', 'x'), 2, "error: [Errno 13] Permission denied: 'x'"),
    (KeyboardInterrupt(), 130, 'interrupted. Go on with --resume.'),
    (Terminated(), 143, 'ended by SIGTERM. Go on with --resume.'),
    (RuntimeError('first\nsecond'), 1, 'error: RuntimeError: first'),
    (ModuleNotFoundError("No module named 'mmdet'"), 2, 'error: mmdet is not installed.*\\[onedl-'),
]


@pytest.mark.parametrize('error, code, line', WAYS, ids=[type(way[0]).__name__ for way in WAYS])
def test_the_last_line_says_what_to_do(error, code, line, capsys):
    with pytest.raises(SystemExit) as done, one_line_errors(lambda: 'Go on with --resume.'):
        raise error
    assert done.value.code == code
    said = capsys.readouterr().err.splitlines()
    if '.*' in line:
        start, rest = line.split('.*')
        assert said[-1].startswith(start) and rest.replace('\\', '') in said[-1]
    else:
        assert said[-1] == line
    shows_traceback = code == 1
    assert (said[0] == 'Traceback (most recent call last):') is shows_traceback
    assert shows_traceback or len(said) == 1


@pytest.mark.parametrize(
    'signal, code, said',
    [(KeyboardInterrupt, 130, 'interrupted.'), (Terminated, 143, 'ended by SIGTERM.')],
)
@pytest.mark.parametrize('raised', [SyntaxError('Failed to format'), KeyboardInterrupt()])
def test_an_interruption_that_a_library_turned_into_an_error(signal, code, said, raised, capsys):
    """mmengine's formatting of a config does that to Ctrl-C; others raise an interruption anew."""
    with pytest.raises(SystemExit) as done, one_line_errors():
        try:
            raise signal
        except KeyboardInterrupt:
            raise raised  # noqa: B904
    assert done.value.code == code and capsys.readouterr().err == f'{said}\n'


PROGRAM = """
import importlib.util, sys, types
errors = types.ModuleType('plrc_plugin.errors')
class SettingsError(ValueError): pass
class InputError(Exception): pass
errors.SettingsError, errors.InputError = SettingsError, InputError
sys.modules.update({'plrc_plugin': types.ModuleType('plrc_plugin'), 'plrc_plugin.errors': errors})
spec = importlib.util.spec_from_file_location('terminal', sys.argv[1])
terminal = importlib.util.module_from_spec(spec)
spec.loader.exec_module(terminal)
with terminal.one_line_errors():
    raise SettingsError('the one good line')
"""
# As mim starts tools: a child whose exit code becomes a traceback.
MIM = """
import subprocess, sys
subprocess.check_call([sys.executable, '-S', '-c', sys.argv[1], sys.argv[2]])
"""


def test_under_mim_the_error_stands_below_its_traceback(tmp_path):
    (tmp_path / 'mim').write_text(MIM)
    terminal = str(ROOT / 'plrc_plugin' / 'terminal.py')
    command = [sys.executable, '-S', str(tmp_path / 'mim'), PROGRAM, terminal]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    said = done.stderr.splitlines()
    assert any('CalledProcessError' in line for line in said)
    assert said[-1] == 'error: the one good line' and done.returncode == 1


def test_under_another_parent_it_is_said_once(tmp_path):
    (tmp_path / 'starter').write_text(MIM)
    terminal = str(ROOT / 'plrc_plugin' / 'terminal.py')
    command = [sys.executable, '-S', str(tmp_path / 'starter'), PROGRAM, terminal]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines().count('error: the one good line') == 1


def test_torchrun_gets_the_line_for_its_report(tmp_path):
    terminal = str(ROOT / 'plrc_plugin' / 'terminal.py')
    env = {**os.environ, 'TORCHELASTIC_ERROR_FILE': str(tmp_path / 'error.json')}
    command = [sys.executable, '-S', '-c', PROGRAM, terminal]
    assert subprocess.run(command, capture_output=True, env=env, timeout=60).returncode == 2
    assert 'the one good line' in (tmp_path / 'error.json').read_text()


def logger_with_file(path):
    logger = logging.Logger('test')
    logger.addHandler(logging.StreamHandler(sys.stdout))
    logger.addHandler(logging.FileHandler(path))
    return logger


def test_a_long_message_is_short_on_the_screen_and_whole_in_the_file(tmp_path, capsys):
    logger = logger_with_file(tmp_path / 'log')
    shorten(logger, 'LOG')
    shorten(logger, 'LOG')  # once is enough
    text = '\n'.join(f'size mismatch {i}' for i in range(250))
    logger.warning(text)
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == LINES and shown[-1] == '... 246 more lines in LOG'
    assert (tmp_path / 'log').read_text().strip() == text
    logger.error(text)
    logger.info(text, extra=dict(whole=True))
    assert len(capsys.readouterr().out.splitlines()) == 500


def test_what_is_for_the_file_is_not_on_the_screen(tmp_path, capsys):
    logger = logger_with_file(tmp_path / 'log')
    with only_in_files(logger):
        logger.error('environment')
    logger.warning('seen')
    assert capsys.readouterr().out == 'seen\n'
    assert (tmp_path / 'log').read_text() == 'environment\nseen\n'


@pytest.mark.parametrize(
    'text, named',
    [
        ("No module named 'mmseg.models'", 'onedl-seg'),
        ("No module named 'mmcv._ext'", 'without its compiled operators.*--no-build-isolation'),
        ('mmsegmentation is not installed, please install it', 'onedl-seg'),
        ('mmdet has not been installed', 'onedl-det'),
    ],
)
def test_what_is_missing_is_named_with_the_command(text, named):
    with pytest.raises(SystemExit, match='2'), one_line_errors():
        raise ImportError(text)
    assert all(part in explain_missing(ImportError(text)) for part in named.split('.*'))


def test_a_type_of_a_package_that_is_not_there(monkeypatch):
    error = KeyError('mmdet.ResNet is not in the plrc_plugin::model registry.')
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    assert 'onedl-det' in explain_missing(error)
    monkeypatch.setattr('importlib.util.find_spec', lambda name: object())
    assert explain_missing(error) is None  # the package is there, and has no such part


def test_a_user_id_without_a_name_gets_one(monkeypatch):
    import pwd

    def unknown(uid):
        raise KeyError(f'getpwuid(): uid not found: {uid}')

    for name in ('LOGNAME', 'USER', 'LNAME', 'USERNAME'):
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)
    monkeypatch.setattr(pwd, 'getpwuid', unknown)
    name_the_user()
    assert os.environ['USER'] == f'uid{os.getuid()}'
    import getpass

    assert getpass.getuser() == f'uid{os.getuid()}'
    monkeypatch.setenv('USER', 'me')
    name_the_user()
    assert os.environ['USER'] == 'me'
