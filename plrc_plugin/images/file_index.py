"""The images below a folder: their names in one buffer, remembered from run to run."""

import os
import time
from collections import Counter
from typing import NamedTuple, Optional

import numpy as np
from mmengine.logging import print_log

from plrc_plugin.images.cache import SETTLED_NS, WORTH_REMEMBERING, kept_at, recall, remember
from plrc_plugin.images.companions import RULES, is_companion_file, is_companion_folder
from plrc_plugin.images.decoding import EXTENSIONS
from plrc_plugin.images.patterns import Patterns, Selection


class FileIndex(NamedTuple):
    """Names in one buffer. A list of a million Python strings would be copied into every loader
    process, page by page, because reading a string writes its reference count.

    For an image in a shard or at an address, a zero byte and the place of the image follow its
    name, see :mod:`~plrc_plugin.images.sources`.
    """

    names: np.ndarray  # (bytes,) uint8, one name after the other
    ends: np.ndarray  # (N,) int64, where each name ends


def image_index(root: str, exclude: Patterns = None, include: Patterns = None) -> FileIndex:
    """Returns the paths of the images below a root, relative to it and sorted.

    Files that systems leave beside photographs are left out and counted in the log, see
    :mod:`~plrc_plugin.images.companions`.

    A long list is kept in ``$XDG_CACHE_HOME/plrc_plugin`` (``~/.cache/plrc_plugin``). It is valid
    as long as no folder below the root has another modification time. A folder that gained, lost or
    renamed an entry has another.

    Args:
        root (str): the folder. A folder that is linked into itself is entered once. exclude,
        include (str | Sequence[str], optional): patterns of files to leave out, and of files to
            take, see :class:`~plrc_plugin.images.patterns.Selection`.

    Raises:
        OSError: if a folder cannot be read.
    """
    selection = Selection(include, exclude)
    path = _remembered_at(root, selection)
    found = _recall(path, root)
    if found is None:
        started = time.time_ns()
        names, folders, left_out = _walk(root, selection)
        found = packed(sorted(names)), left_out
        settled = max(folders.values()) < started - SETTLED_NS
        if len(names) >= WORTH_REMEMBERING and settled:
            _remember(path, *found, folders)
    index, left_out = found
    if left_out:
        print_log(f'data_root={root!r}: left out what is no photograph: {left_out}', 'current')
    return index


def _walk(root: str, selection: Selection) -> tuple[list[str], dict[str, int], str]:
    """Returns the images, the modification times that the entered folders had before, and the
    companions of images that were left out."""
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
                    elif not selection or selection.takes(path.replace(os.sep, '/')):
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
    """Puts the names into one buffer, in their order."""
    encoded = [os.fsencode(name) for name in names]
    ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)
    return FileIndex(np.frombuffer(b''.join(encoded), dtype=np.uint8), ends)


def _remembered_at(root: str, selection: Selection) -> str:
    patterns = [*selection.exclude, *(f'+{pattern}' for pattern in selection.include)]
    return kept_at(os.path.realpath(root), RULES, *patterns, '', *EXTENSIONS)


def _recall(path: str, root: str) -> Optional[tuple[FileIndex, str]]:
    def holds(kept) -> bool:
        folders = [os.fsdecode(folder) for folder in kept['folders'].tobytes().split(b'\0')]
        changed = [os.stat(os.path.join(root, folder)).st_mtime_ns for folder in folders]
        return changed == kept['changed'].tolist()

    kept = recall(path, holds)
    if kept is None or not {'names', 'ends', 'left_out'} <= kept.keys():
        return None
    return FileIndex(kept['names'], kept['ends']), str(kept['left_out'])


def _remember(path: str, index: FileIndex, left_out: str, folders: dict[str, int]) -> None:
    encoded = b'\0'.join(os.fsencode(folder) for folder in folders)
    remember(
        path,
        names=index.names,
        ends=index.ends,
        left_out=np.array(left_out.encode('utf-8', 'backslashreplace').decode()),
        folders=np.frombuffer(encoded, dtype=np.uint8),
        changed=np.array(list(folders.values()), dtype=np.int64),
    )
