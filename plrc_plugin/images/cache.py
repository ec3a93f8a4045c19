"""Lists that are kept from run to run, in ``$XDG_CACHE_HOME/plrc_plugin`` (``~/.cache``)."""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Callable, Optional

import numpy as np
from filelock import FileLock, Timeout
from mmengine.logging import print_log

# Listing fewer takes less than a tenth of a second.
WORTH_REMEMBERING = 10_000
# A folder or shard that changed this shortly before it was listed may change again within one tick
# of its clock, unseen.
SETTLED_NS = 2 * 10**9


def kept_at(*what: str) -> str:
    """The file of a list, by all that the list depends on."""
    cache = os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache')
    name = hashlib.sha256(os.fsencode('\0'.join(what))).hexdigest()[:32]
    return os.path.join(cache, 'plrc_plugin', f'{name}.npz')


def recall(path: str, holds: Callable[[Mapping[str, np.ndarray]], bool]) -> Optional[dict]:
    """The arrays of a list, if they are there and still hold.

    Args:
        path: of :func:`kept_at`.
        holds: looks at some of the arrays; an OSError that it raises means no.
    """
    try:
        with np.load(path) as kept:
            return dict(kept) if holds(kept) else None
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None  # none yet, of another version, or damaged


def remember(path: str, **arrays: Any) -> None:
    """Writes beside the name and renames: a reader sees a whole list or none."""
    temporary = None
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=os.path.dirname(path), delete=False) as file:
            temporary = file.name
            np.savez(file, **arrays)
        os.replace(temporary, path)
    except OSError:  # a home that is full or read-only: the next run lists again
        if temporary and os.path.exists(temporary):
            os.remove(temporary)


@contextmanager
def one_at_a_time(path: str) -> Iterator[None]:
    """Lets the other processes of this machine that want the same list wait until it is there."""
    lock = FileLock(f'{path}.lock')
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print_log('another process makes the same index: waiting for it', 'current')
            lock.acquire()
    except (OSError, NotImplementedError):  # a home that is read-only or knows no locks
        pass
    try:
        yield
    finally:
        if lock.is_locked:
            lock.release()
            with suppress(OSError):  # at worst two processes make the same index
                os.remove(lock.lock_file)
