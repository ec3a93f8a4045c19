"""Records which parts of a comparison are done and how long they took, in files that survive a
kill."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Optional

from plrc_plugin.outputs import publish

FROZEN, PRETRAIN, FINETUNED = 'frozen', 'pretrain', 'finetuned'


class Part(NamedTuple):
    """A piece of work: pre-training, the probes of a trunk, or a fine-tuning.

    ``percent`` is the share of the labels, or None for parts without one.
    """

    kind: str
    method: str
    seed: int
    percent: Optional[float] = None

    @property
    def name(self) -> str:
        share = f'-{self.percent:g}' if self.percent is not None else ''
        return f'{self.kind}-{self.method}{share}-seed{self.seed}'

    @property
    def estimate_key(self) -> str:
        """The key of its seconds in a plan."""
        return self.method if self.kind == PRETRAIN else self.kind


class Done(NamedTuple):
    """A finished part: its numbers, by name, or by percentage and name; and its seconds."""

    part: Part
    numbers: dict[str, Any]
    seconds: float


class Ledger:
    """The folder ``results`` of a comparison.

    Args:
        folder: folder of the comparison.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder) / 'results'
        self.folder.mkdir(parents=True, exist_ok=True)
        self._running = self.folder / 'running.json'
        self._spent = self.folder / 'spent.jsonl'
        self._close_what_was_killed()

    def result(self, part: Part) -> Optional[Done]:
        """Returns the result of a finished part, or None."""
        path = self.folder / f'{part.name}.json'
        if not path.is_file():
            return None
        found = json.loads(path.read_text())
        return Done(part, found['numbers'], found['seconds'])

    def seconds(self, name: Optional[str] = None) -> float:
        """Returns the seconds that all parts, or the one of a name, took so far, killed ones
        included."""
        if not self._spent.is_file():
            return 0.0
        entries = [json.loads(line) for line in self._spent.read_text().splitlines()]
        return sum(e['seconds'] for e in entries if name in (None, e['part']))

    def write(self, part: Part, numbers: dict) -> Done:
        """Records that a part is finished."""
        seconds = self.seconds(part.name)
        path = self.folder / f'{part.name}.json'
        content = dict(**part._asdict(), numbers=numbers, seconds=seconds)
        publish(path, json.dumps(content, indent=1))
        return Done(part, numbers, seconds)

    @contextmanager
    def clock(self, name: str, output: Optional[Path] = None) -> Iterator[None]:
        """A context that records how long its block takes, however it ends. After a kill, the last
        change of ``output`` tells its end."""
        running = dict(part=name, begun=time.time(), output=str(output or self._running))
        self._running.write_text(json.dumps(running))
        try:
            yield
        finally:
            self._note(name, time.time() - running['begun'])
            self._running.unlink(missing_ok=True)

    def _note(self, name: str, seconds: float) -> None:
        with open(self._spent, 'a') as file:
            file.write(json.dumps(dict(part=name, seconds=round(seconds, 2))) + '\n')

    def _close_what_was_killed(self) -> None:
        try:
            running = json.loads(self._running.read_text())
            last = Path(running['output']).stat().st_mtime
        except (OSError, ValueError, KeyError):
            return
        self._note(running['part'], max(0.0, last - running['begun']))
        self._running.unlink(missing_ok=True)
