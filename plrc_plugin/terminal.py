"""What people see of a tool: long messages are shortened, and its error comes last."""

import importlib.util
import logging
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager, suppress
from typing import Optional

from plrc_plugin.errors import InputError, SettingsError

LINES = 5

# The extra that brings each package. Packages of both distributions have the same import names.
_EXTRAS = {
    'mmdet': ("'plrc_plugin[onedl-det]'", "'plrc_plugin[openmmlab-det]'"),
    'mmseg': ("'plrc_plugin[onedl-seg]'", "'plrc_plugin[openmmlab-seg]'"),
    'mmcv': ("'plrc_plugin[onedl-det]'", "'plrc_plugin[openmmlab-det]'"),
}
_NAMES = dict(mmdetection='mmdet', mmsegmentation='mmseg')

# A program that waits for the end of the process that started a tool, and prints the tool's error
# once more.
_AGAIN = """
import os, sys, time
parent, message = int(sys.argv[1]), sys.argv[2]
for _ in range(4000):
    try:
        os.kill(parent, 0)
        with open(f'/proc/{parent}/stat') as file:
            if file.read().rpartition(')')[2].split()[0] == 'Z':
                break
    except OSError:
        break
    time.sleep(0.005)
print(message, file=sys.stderr, flush=True)
"""


class ShortMessages(logging.Formatter):
    """Formats messages as another formatter does, and shows only the first lines of long ones.

    Errors stay whole. Log files, which have formatters of their own, hold everything.
    """

    def __init__(self, inner: Optional[logging.Formatter], log_file: Optional[str]):
        super().__init__()
        self.inner, self.log_file = inner or logging.Formatter(), log_file

    def format(self, record: logging.LogRecord) -> str:
        text = self.inner.format(record)
        lines = text.splitlines()
        if (
            record.levelno >= logging.ERROR
            or len(lines) <= LINES
            or getattr(record, 'whole', False)
        ):
            return text
        left = len(lines) - LINES + 1
        return '\n'.join([*lines[: LINES - 1], f'... {left} more lines in {self.log_file}'])


def shorten(logger: logging.Logger, log_file: Optional[str]) -> None:
    """Shortens what a logger shows on the screen; its files take any name of a file."""
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler) and hasattr(handler.stream, 'reconfigure'):
            handler.stream.reconfigure(errors='backslashreplace')
        on_screen = isinstance(handler, logging.StreamHandler) and not isinstance(
            handler, logging.FileHandler
        )
        if on_screen and not isinstance(handler.formatter, ShortMessages):
            handler.setFormatter(ShortMessages(handler.formatter, log_file))


@contextmanager
def only_in_files(logger: logging.Logger):
    """Within this context, messages go to log files alone."""
    shown = [h for h in logger.handlers if not isinstance(h, logging.FileHandler)]
    levels = [handler.level for handler in shown]
    for handler in shown:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for handler, level in zip(shown, levels):
            handler.setLevel(level)


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM), as schedulers and containers do."""


@contextmanager
def one_line_errors(what_remains=lambda: ''):
    """Ends the program with one line for errors that users can mend, and prints that line last.

    - SettingsError and errors of the operating system: ``error: ...``, exit code 2.
    - Ctrl-C and SIGTERM: one line with ``what_remains()``, exit codes 130 and 143.
    - Anything else: its traceback, then the line, exit code 1.

    Under ``mim`` the line is printed once more after mim's own traceback. Under torchrun it stands
    in the report at the end.
    """
    before = None
    if hasattr(sys.stdout, 'reconfigure'):  # names of files may hold bytes that are no text
        sys.stdout.reconfigure(errors='backslashreplace')
    with suppress(ValueError):  # not the main thread
        before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except KeyboardInterrupt as interruption:
        _end_interrupted(interruption, what_remains())
    except SystemExit as done:
        if isinstance(done.code, str):  # Python will print it
            _say_after_mim(done.code)
        raise
    except (SettingsError, InputError) as error:
        _keep(error)
        end(f'error: {error}', 2, error)
    except OSError as error:
        _keep(error)
        end(f'error: {error}', 2, error)
    except Exception as error:
        interruption = _interruption_behind(error)
        if interruption is not None:
            _end_interrupted(interruption, what_remains())
        missing = explain_missing(error)
        if missing is None:
            traceback.print_exc()
            lines = str(error).strip().splitlines() or ['']
            end(f'error: {type(error).__name__}: {lines[0]}', 1, error)
        end(f'error: {missing}', 2, error)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def end(message: str, code: int, error: Optional[BaseException] = None) -> None:
    """Prints the message as the last thing, and exits."""
    sys.stdout.flush()
    print(message, file=sys.stderr, flush=True)
    if error is not None:
        _tell_torchrun(message)
    _say_after_mim(message)
    sys.exit(code)


def _say_after_mim(message: str) -> None:
    parent = _mim_above()
    if parent and os.environ.get('LOCAL_RANK', '0') == '0':
        subprocess.Popen(
            [sys.executable, '-S', '-c', _AGAIN, str(parent), message],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def explain_missing(error: BaseException) -> Optional[str]:
    """The command that installs the package that an error misses, or None for other errors."""
    seen = error
    while seen is not None:
        text = str(seen)
        if 'mmcv._ext' in text or ('mmcv' in text and '_ext' in text):
            return (
                'mmcv is installed without its compiled operators (mmcv._ext is missing). Compile '
                'it beside the torch that is installed: MMCV_WITH_OPS=1 pip install '
                '--no-build-isolation --force-reinstall --no-deps --no-cache-dir onedl-mmcv (or '
                "mmcv, of OpenMMLab's own)"
            )
        found = re.search(
            r"No module named '(\w+)"
            r'|(\w+) (?:is|has|need)\b[\w ]* installed'
            r'|(\w+)\.\w+ is not in the',
            text,
        )
        name = found and next(filter(None, found.groups()))
        name = _NAMES.get(name, name)
        if found and found[3] and importlib.util.find_spec(name) is not None:
            name = None  # it is installed, but has no such part
        if name in _EXTRAS:
            ours, theirs = _EXTRAS[name]
            return (
                f'{name} is not installed, and the config names a part of it: pip install '
                f"--no-build-isolation {ours} (with OneDL's packages) or {theirs} (with "
                "OpenMMLab's own)"
            )
        seen = seen.__cause__ or seen.__context__
    return None


def _interruption_behind(error: Optional[BaseException]) -> Optional[KeyboardInterrupt]:
    """The Ctrl-C or SIGTERM that libraries caught before they raised something else."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def _end_interrupted(interruption: KeyboardInterrupt, what_remains: str) -> None:
    # A library may catch the first signal and be interrupted by the second.
    seen = interruption
    while seen is not None and not isinstance(seen, Terminated):
        seen = seen.__cause__ or seen.__context__
    if seen is None:
        end(f'interrupted. {what_remains}'.strip(), 130)
    end(f'ended by SIGTERM. {what_remains}'.strip(), 143)


def _keep(error: BaseException) -> None:
    """Prints the traceback of an error of one line if PLRC_TRACEBACK=1 asks for it."""
    if os.environ.get('PLRC_TRACEBACK'):
        traceback.print_exception(type(error), error, error.__traceback__)


def _terminate(signum, frame) -> None:
    raise Terminated


def name_the_user() -> None:
    """Gives the user a name. Containers run under user ids without a name, and torch and other
    libraries ask for it."""
    names = ('LOGNAME', 'USER', 'LNAME', 'USERNAME')
    if any(os.environ.get(name) for name in names) or not hasattr(os, 'getuid'):
        return
    import pwd

    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ['USER'] = f'uid{os.getuid()}'


def _tell_torchrun(message: str) -> None:
    if not os.environ.get('TORCHELASTIC_ERROR_FILE'):
        return
    import json

    told = dict(message=message, extraInfo=dict(py_callstack=message, timestamp=int(time.time())))
    try:
        with open(os.environ['TORCHELASTIC_ERROR_FILE'], 'w') as file:
            json.dump(dict(message=told), file)
    except OSError:
        pass


def _mim_above() -> Optional[int]:
    """The process id of the ``mim`` that started this program, at any distance."""
    process = os.getppid()
    for _ in range(8):
        try:
            with open(f'/proc/{process}/cmdline', 'rb') as file:
                words = file.read().split(b'\0')
            with open(f'/proc/{process}/stat') as file:
                parent = int(file.read().rpartition(')')[2].split()[1])
        except (OSError, ValueError, IndexError):
            return None
        names = [os.path.basename(word) for word in words[:3]]
        if b'mim' in names or (b'-m' in words[:2] and b'mim' in words[:3]):
            return process
        if parent <= 1:
            return None
        process = parent
    return None
