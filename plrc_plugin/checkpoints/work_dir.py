"""The checkpoints of a work dir: published whole, found newest first, told apart by name."""

import os
import os.path as osp
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Optional

from plrc_plugin.checkpoints.safe_reading import damage_of
from plrc_plugin.errors import SettingsError

POINTER = 'last_checkpoint'
WRITING = '.being_written'
BEST = 'best_'  # weights alone: nothing to resume from


def newest_intact_checkpoint(work_dir: str, logger=None) -> Optional[str]:
    """The checkpoint to resume from, or None if there is no intact one.

    It is the one that ``last_checkpoint`` names. Where that one is damaged or gone, it is the
    newest intact one beside it.
    """
    for path in newest_first(work_dir):
        damage = damage_of(path)
        if damage is None:
            return path
        if logger is not None:
            logger.warning(f'{path} is passed over: {damage}')
    return None


def checkpoint_of(path: str) -> str:
    """The checkpoint that ``path`` means: a file means itself, a work dir its newest intact one.

    Raises:
        SettingsError: if there is no such file, or the work dir holds none.
    """
    found = newest_intact_checkpoint(path) if osp.isdir(path) else path
    if found is None or not osp.isfile(found):
        raise SettingsError(f'no checkpoint at {path}: give a file, or a work dir that holds one')
    return found


def told_apart(paths: Sequence[str]) -> list[str]:
    """Names of files or folders: the last part of each path, and as many parts before it as tell
    different ones apart."""
    parts = [Path(path).resolve().parts for path in paths]
    lengths = range(1, max(map(len, parts)) + 1)
    length = next(n for n in lengths if len({p[-n:] for p in parts}) == len(set(parts)))
    return [Path(*p[-length:]).as_posix() for p in parts]


def newest_first(work_dir: str) -> Iterator[str]:
    first = None
    folder = work_dir
    pointer = osp.join(work_dir, POINTER)
    if osp.exists(pointer):
        with open(pointer) as file:
            first = file.read().strip()
        # A work dir that was moved or copied goes on from its own files.
        here = osp.join(work_dir, osp.basename(first))
        if osp.exists(here) or not osp.isdir(osp.dirname(first)):
            first = here
        folder = osp.dirname(first)
        yield first
    with os.scandir(folder) as entries:
        found = [
            (entry.stat().st_mtime_ns, entry.path)
            for entry in entries
            if re.search(r'_\d+\.pth$', entry.name) and not entry.name.startswith(BEST)
        ]
    yield from (path for _, path in sorted(found, reverse=True) if path != first)


def publish(path: str) -> None:
    """Gives ``path`` what was written beside it, in one step that survives a loss of power."""
    with open(path + WRITING, 'rb') as file:
        os.fsync(file.fileno())
    os.replace(path + WRITING, path)
    folder = os.open(osp.dirname(path) or '.', os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_if_there(path: str) -> None:
    """Removes a file, if there is one."""
    with suppress(FileNotFoundError):
        os.remove(path)
