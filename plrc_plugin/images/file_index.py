"""The images below a folder: their names in one buffer, remembered from run to run."""

import hashlib
import os
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatch
from typing import NamedTuple, Optional, Union

import numpy as np
from mmengine.logging import print_log

from plrc_plugin.images.companions import RULES, is_companion_file, is_companion_folder
from plrc_plugin.images.decoding import EXTENSIONS

# Listing fewer takes less than a tenth of a second.
WORTH_REMEMBERING = 10_000
# A folder that changed this shortly before it was listed may change again within one tick of its
# clock, unseen.
_SETTLED_NS = 2 * 10**9


class FileIndex(NamedTuple):
    """Names in one buffer: a list of a million Python strings would be copied into every loader
    process, page by page, as reading a string writes its reference count."""

    names: np.ndarray  # (bytes,) uint8, one name after the other
    ends: np.ndarray  # (N,) int64, where each ends


Patterns = Union[str, Sequence[str], None]


def image_index(root: str, exclude: Patterns = None) -> FileIndex:
    """Paths, relative to the root and sorted, of the images below it.

    What systems leave beside photographs is left out and counted in the log, see
    :mod:`~plrc_plugin.images.companions`.

    A long list is kept in ``$XDG_CACHE_HOME/plrc_plugin`` (``~/.cache/plrc_plugin``). It holds as
    long as no folder below the root has another modification time: one that gained, lost or renamed
    an entry has.

    Args:
        root (str): the folder. One that is linked into itself is entered once.
        exclude (str | Sequence[str], optional): patterns of file names to leave out.

    Raises:
        OSError: if a folder cannot be read.
    """
    patterns = [exclude] if isinstance(exclude, str) else list(exclude or ())
    path = _remembered_at(root, patterns)
    found = _recall(path, root)
    if found is None:
        started = time.time_ns()
        names, folders, left_out = _walk(root, patterns)
        found = packed(sorted(names)), left_out
        settled = max(folders.values()) < started - _SETTLED_NS
        if len(names) >= WORTH_REMEMBERING and settled:
            _remember(path, *found, folders)
    index, left_out = found
    if left_out:
        print_log(f'data_root={root!r}: left out what is no photograph: {left_out}', 'current')
    return index


def _walk(root: str, exclude: list[str]) -> tuple[list[str], dict[str, int], str]:
    """Images, the modification times of the folders entered, as they were before, and what was left
    out as companions of the images."""
    names, changed, left_out = [], {}, Counter()
    seen = {os.path.realpath(root)}
    folders = ['']
    while folders:
        folder = folders.pop()
        location = os.path.join(root, folder)
        changed[folder] = os.stat(location).st_mtime_ns
        with os.scandir(location) as entries:
            for entry in entries:
                path = os.path.join(folder, entry.name)
                if entry.name.lower().endswith(EXTENSIONS):
                    if is_companion_file(entry.name, entry.path):
                        left_out[f'{entry.name[:2]}* files'] += 1
                    elif not any(fnmatch(entry.name, pattern) for pattern in exclude):
                        names.append(path)
                elif is_companion_folder(entry.name):
                    left_out[f'folders {entry.name!r}'] += entry.is_dir()
                elif entry.is_dir():
                    if entry.is_symlink():
                        target = os.path.realpath(entry.path)
                        if target in seen:
                            continue
                        seen.add(target)
                    folders.append(path)
    counted = [f'{number} {kind}' for kind, number in sorted(left_out.items()) if number]
    return names, changed, ', '.join(counted)


def packed(names: list[str]) -> FileIndex:
    """The names in one buffer, in their order."""
    encoded = [os.fsencode(name) for name in names]
    ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)
    return FileIndex(np.frombuffer(b''.join(encoded), dtype=np.uint8), ends)


def _remembered_at(root: str, exclude: list[str]) -> str:
    cache = os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache')
    what = '\0'.join([os.path.realpath(root), RULES, *exclude, '', *EXTENSIONS])
    name = hashlib.sha256(os.fsencode(what)).hexdigest()[:32]
    return os.path.join(cache, 'plrc_plugin', f'{name}.npz')


def _recall(path: str, root: str) -> Optional[tuple[FileIndex, str]]:
    try:
        with np.load(path) as kept:
            folders = [os.fsdecode(folder) for folder in kept['folders'].tobytes().split(b'\0')]
            changed = [os.stat(os.path.join(root, folder)).st_mtime_ns for folder in folders]
            if changed != kept['changed'].tolist():
                return None
            return FileIndex(kept['names'], kept['ends']), str(kept['left_out'])
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None  # none yet, of another version, or damaged


def _remember(path: str, index: FileIndex, left_out: str, folders: dict[str, int]) -> None:
    encoded = b'\0'.join(os.fsencode(folder) for folder in folders)
    temporary = None
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=os.path.dirname(path), delete=False) as file:
            temporary = file.name
            np.savez(
                file,
                names=index.names,
                ends=index.ends,
                left_out=np.array(left_out.encode('utf-8', 'backslashreplace').decode()),
                folders=np.frombuffer(encoded, dtype=np.uint8),
                changed=np.array(list(folders.values()), dtype=np.int64),
            )
        os.replace(temporary, path)
    except OSError:  # a home that is full or read-only: the next run lists again
        if temporary and os.path.exists(temporary):
            os.remove(temporary)
