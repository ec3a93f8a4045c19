"""Keeps lists of images from run to run, in ``$XDG_CACHE_HOME/plrc_plugin`` (``~/.cache``)."""

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

# Listing fewer images takes less than a tenth of a second.
WORTH_REMEMBERING = 10_000
# If a folder or shard changed less than so many seconds before it was listed, it may change again
# within one tick of its clock, and nobody would notice.
SETTLED_NS = 2 * 10**9


def kept_at(*what: str) -> str:
    """Returns the file of a list, whose name is a hash of all that the list depends on."""
    cache = os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache')
    name = hashlib.sha256(os.fsencode('\0'.join(what))).hexdigest()[:32]
    return os.path.join(cache, 'plrc_plugin', f'{name}.npz')


def recall(path: str, holds: Callable[[Mapping[str, np.ndarray]], bool]) -> Optional[dict]:
    """Returns the arrays of a list, if they are there and still valid.

    Args:
        path: what :func:`kept_at` returned.
        holds: tells from some of the arrays whether the list is still valid. An OSError in it means
            no.
    """
    try:
        with np.load(path) as kept:
            return dict(kept) if holds(kept) else None
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None  # no list yet, a list of another version, or a damaged one


def remember(path: str, **arrays: Any) -> None:
    """Writes a list beside its name and renames it, so that a reader sees a whole list or none."""
    temporary = None
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=os.path.dirname(path), delete=False) as file:
            temporary = file.name
            np.savez(file, **arrays)
        os.replace(temporary, path)
    except OSError:  # the home folder may be full or read-only; the next run lists again
        if temporary and os.path.exists(temporary):
            os.remove(temporary)


@contextmanager
def one_at_a_time(path: str) -> Iterator[None]:
    """A context in which other processes of this machine that want the same list wait for it."""
    lock = FileLock(f'{path}.lock')
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print_log('another process is making the same index: waiting for it', 'current')
            lock.acquire()
    except (OSError, NotImplementedError):  # the home folder may be read-only or without locks
        pass
    try:
        yield
    finally:
        if lock.is_locked:
            lock.release()
            with suppress(OSError):  # at worst two processes make the same index
                os.remove(lock.lock_file)
