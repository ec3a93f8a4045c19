"""Pieces of the check: each runs in a process of its own and leaves one JSON."""

import hashlib
import json
import math
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Optional

ROOT = Path(__file__).resolve().parents[2]
DONE, FAILED, UNFINISHED = 'done', 'failed', 'unfinished'
RAN_PAST = 'ran past'
TIME_IS_OVER = 124  # the exit status of a program that was ended for its time, as of `timeout`
# What the code of the plug-in, its configs and this check are.
SOURCES = ('plrc_plugin', 'configs', 'benchmarks/gpu')
PLENTY = 3  # times what a piece should take: it hangs if it needs more
NEEDS_CUDA = 'needs CUDA'


class Setting(NamedTuple):
    """What all pieces are told.

    Attributes:
        device: 'cuda' or 'cpu'.
        small: sizes for a try of the script, not for numbers.
        out: folder of the JSONs.
        work: folder of what pieces keep between calls: scenes, runs, checkpoints.
        seconds: that this piece may still take.
        photos: folder or .tar of photographs; generated scenes without.
        voc: folder or .tar of VOC2012, which the probes of the evidence need.
        weights: a file that the evidence continues from.
        card: the GPU's name; None on a CPU.
    """

    device: str = 'cuda'
    small: bool = False
    out: Path = ROOT / 'docs' / 'gpu'
    work: Path = ROOT / 'work_dirs' / 'gpu'
    seconds: float = 540
    photos: Optional[Path] = None
    voc: Optional[Path] = None
    weights: Optional[Path] = None
    card: Optional[str] = None

    def sized(self, full: Any, small: Any) -> Any:
        return small if self.small else full


class Rows(list):
    """Rows of a table, which call ``changed`` whenever there is another one."""

    def __init__(self, changed: Callable[[], None]):
        super().__init__()
        self.changed = changed

    def append(self, row: Sequence) -> None:
        super().append([_plain(cell) for cell in row])
        self.changed()


class Report:
    """What a piece found: checks, tables, and numbers that other pieces read.

    Whatever is added is kept in the file ``kept``, where there is one, so that a piece that is
    ended, or dies, has not measured in vain.
    """

    kept: ClassVar[Optional[Path]] = None

    def __init__(self):
        self.checks: list[dict] = []
        self.tables: list[dict] = []
        self.numbers: dict[str, Any] = {}
        self.finished = True

    def at_most(self, name: str, found: float, allowed: float) -> None:
        """A check that a number does not exceed what is allowed; NaN does."""
        ok = bool(found <= allowed)
        self.checks.append(dict(name=name, ok=ok, found=_plain(found), allowed=allowed))
        self._keep()

    def verify(self, name: str, ok: bool, found: str = '') -> None:
        self.checks.append(dict(name=name, ok=bool(ok), found=found))
        self._keep()

    def needs_cuda(self, *names: str) -> None:
        """Checks that were not run, as there is no GPU."""
        self.checks += [dict(name=name, ok=None, found=NEEDS_CUDA) for name in names]

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence] = ()) -> Rows:
        """A table; what is appended to the rows that it returns is in it."""
        live = Rows(self._keep)
        self.tables.append(dict(title=title, header=list(header), rows=live))
        for row in rows:
            live.append(row)
        return live

    def found(self) -> dict:
        """All of it, for JSON."""
        tables = [dict(table, rows=list(table['rows'])) for table in self.tables]
        return dict(checks=self.checks, tables=tables, numbers=self.numbers)

    def _keep(self) -> None:
        if Report.kept is not None:
            write_json(Report.kept, self.found())


class Piece(NamedTuple):
    """A part of the check.

    Attributes:
        function: from a setting to a report.
        title: its heading on the page; the docstring of ``function`` is the text below.
        seconds: what it takes on a GPU, roughly.
    """

    function: Callable[[Setting], Report]
    title: str
    seconds: int


def run_piece(name: str, piece: Piece, setting: Setting) -> dict:
    """Runs a piece in a process of its own, writes its JSON and returns what is in it.

    A piece that raises, crashes or exceeds its time leaves a JSON that says so, with what it had
    found until then.
    """
    started = time.monotonic()
    kept = setting.out / f'{name}.until-now'
    kept.unlink(missing_ok=True)
    result, problem = in_child(
        _call, piece, setting, kept, seconds=setting.seconds, fork=setting.device == 'cpu'
    )
    if problem:
        result = read_json(kept)
    kept.unlink(missing_ok=True)
    status = FAILED if problem else result.pop('status')
    if problem and problem.startswith(RAN_PAST) and setting.seconds < PLENTY * piece.seconds:
        status = UNFINISHED  # the rest of a call was too short for it; the next one has more
    record = dict(
        piece=name,
        title=piece.title,
        status=status,
        device=setting.device,
        small=setting.small,
        card=setting.card,
        code=code(),
        software=software(),
        seconds=round(time.monotonic() - started, 1),
        problem=problem,
        **(result or {}),
    )
    write_json(setting.out / f'{name}.json', record)
    return record


def _call(piece: Piece, setting: Setting, kept: Path) -> dict:
    Report.kept = kept
    report = piece.function(setting)
    failed = any(check['ok'] is False for check in report.checks)
    return dict(
        status=FAILED if failed else DONE if report.finished else UNFINISHED,
        **report.found(),
    )


def in_child(
    function: Callable, *args, seconds: float, fork: bool = False
) -> tuple[Optional[Any], Optional[str]]:
    """What a function returns, called in a new process, and what went wrong instead.

    One that fails or hangs on a GPU takes no other with it. For a GPU it is not forked: importing
    mmengine asks CUDA for its devices, and no process that is forked after that can use them.
    On a CPU forking spares the imports.
    """
    here, there = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context('fork' if fork else 'spawn').Process(
        target=_run_in_child, args=(there, function, args)
    )
    child.start()
    there.close()
    try:
        if not here.poll(seconds):
            return None, f'{RAN_PAST} {seconds:.0f} seconds and was ended'
        return here.recv()
    except EOFError:
        child.join()
        return None, f'the process {how_it_ended(child.exitcode)}'
    finally:
        if child.is_alive():
            child.join(1)
        with suppress(ProcessLookupError):  # its children too, which it cannot see to any more
            os.killpg(child.pid, signal.SIGKILL)
        child.join()


def _run_in_child(connection, function: Callable, args: tuple) -> None:
    os.setpgid(0, 0)
    try:
        connection.send((function(*args), None))
    except BaseException:  # the parent writes it down
        connection.send((None, traceback.format_exc()[-3000:]))


def how_it_ended(code: int) -> str:
    """What the exit status of a process says; a negative one is a signal's."""
    if code >= 0:
        return f'died with exit code {code}'
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f'signal {-code}'
    causes = dict(
        SIGKILL=', as the system does where memory is short', SIGSEGV=', a fault in compiled code'
    )
    return f'was ended by {name}{causes.get(name, "")}'


def card() -> str:
    """The GPU's name; in a child alone, as it initialises CUDA."""
    import torch

    return torch.cuda.get_device_name()


def software() -> str:
    """Versions, and the commit that was checked."""
    import torch

    command = ['git', 'rev-parse', '--short', 'HEAD']
    try:
        commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    except OSError:  # images with PyTorch often have no git
        commit = ''
    versions = f'torch {torch.__version__}, Python {platform.python_version()}'
    return f'{versions}, commit {commit}' if commit else versions


def code() -> str:
    """A digest of the sources that are checked: a piece is done for these alone."""
    digest = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob('*.py')):
            digest.update(f'{path.relative_to(ROOT)}\n'.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def is_done(record: Optional[dict], setting: Setting) -> bool:
    """Whether a piece has been done on this card, at this size, with this code."""
    return bool(record) and record['status'] == DONE and _same(record, setting)


def _same(record: dict, setting: Setting) -> bool:
    there = tuple(record.get(name) for name in ('device', 'small', 'card', 'code'))
    return there == (setting.device, setting.small, setting.card, code())


def write_json(path: Path, value: dict) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix('.part')
    beside.write_text(json.dumps(value, indent=1, allow_nan=False) + '\n')
    os.replace(beside, path)


def read_json(path: Path) -> Optional[dict]:
    return json.loads(path.read_text()) if path.exists() else None


def numbers_of(setting: Setting, name: str) -> dict:
    """The numbers of another piece that has run on the same card with the same code, empty
    without."""
    found = read_json(setting.out / f'{name}.json') or {}
    return found.get('numbers', {}) if found and _same(found, setting) else {}


def _plain(value: Any) -> Any:
    """For JSON, which has no NaN and no infinity."""
    if isinstance(value, float):
        return float(f'{value:.4g}') if math.isfinite(value) else str(value)
    return value


def python(*arguments: str, seconds: float, **environ: str) -> subprocess.CompletedProcess:
    """Runs this Python in the checkout, its output as text; its exit status is
    :data:`TIME_IS_OVER` where it was ended for its time."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    command = [sys.executable, *map(str, arguments)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': path, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace',
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        return subprocess.CompletedProcess(command, TIME_IS_OVER, output)
    return subprocess.CompletedProcess(command, process.returncode, output)
