"""The checkpoints of a work dir: writes them whole, finds the newest, and gives them short
names."""

import errno
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
BEST = 'best_'  # holds weights alone, nothing to resume from
RANDOM = 'random'  # stands for the untrained network in place of a checkpoint

# Errors of file systems that cannot force something to the disk: Windows for folders, vboxsf, CIFS,
# FUSE. Errors of the disk itself (EIO, ENOSPC) are not among them.
_CANNOT_SYNC = {
    getattr(errno, name)
    for name in [
        'EINVAL',
        'ENOSYS',
        'ENOTSUP',
        'EOPNOTSUPP',
        'EACCES',
        'EPERM',
        'EISDIR',
        'EBADF',
        'ENOTTY',
    ]
    if hasattr(errno, name)
}


def newest_intact_checkpoint(work_dir: str, logger=None) -> Optional[str]:
    """Returns the checkpoint to resume from, or None if there is no intact one.

    It is the one that ``last_checkpoint`` names. If that one is damaged or gone, it is the newest
    intact one beside it.
    """
    for path in newest_first(work_dir):
        damage = damage_of(path)
        if damage is None:
            return path
        if logger is not None:
            logger.warning(f'{path} is passed over: {damage}')
    return None


def checkpoint_of(path: str) -> str:
    """Returns the checkpoint that ``path`` stands for: the file itself, or the newest intact one of
    a work dir.

    Raises:
        SettingsError: if there is no such file, or the work dir holds none.
    """
    found = newest_intact_checkpoint(path) if osp.isdir(path) else path
    if found is None or not osp.isfile(found):
        raise SettingsError(f'no checkpoint at {path}: give a file, or a work dir that holds one')
    return found


def checkpoints_of(source: str, given: Optional[Sequence[str]] = None) -> list[str]:
    """Returns the checkpoints that a tool is to look at.

    Args:
        source: the config that the tool was given, or the work dir of a run.
        given: files, work dirs (for their newest checkpoint), or 'random' for the untrained
            network. Defaults to 'random' and, where ``source`` is a work dir, its newest
            checkpoint.

    Raises:
        SettingsError: if one of them does not exist.
    """
    given = given or [RANDOM, *[source] * osp.isdir(source)]
    return [path if path == RANDOM else checkpoint_of(path) for path in given]


def headings(checkpoints: Sequence[str]) -> list[str]:
    """Short names that tell checkpoints apart, such as 'epoch_12'."""
    return [name.removesuffix('.pth') for name in told_apart(checkpoints)]


def told_apart(paths: Sequence[str]) -> list[str]:
    """Short names of files or folders: the last part of each path, with as many parts before it as
    are needed to tell them apart."""
    parts = [Path(path).resolve().parts for path in paths]
    lengths = range(1, max(map(len, parts)) + 1)
    length = next(n for n in lengths if len({p[-n:] for p in parts}) == len(set(parts)))
    return [Path(*p[-length:]).as_posix() for p in parts]


def alike(name: str) -> re.Pattern:
    """A pattern that matches the names of the checkpoints of one run, which differ in their last
    number.

    The hook's ``filename_tmpl`` may be anything, so the pattern is made from a checkpoint's name.
    """
    numbers = list(re.finditer(r'\d+', name))
    if not numbers:
        return re.compile(re.escape(name))
    start, end = numbers[-1].span()
    return re.compile(rf'{re.escape(name[:start])}\d+{re.escape(name[end:])}')


def pointed_at(work_dir: str) -> Optional[str]:
    """The path in ``last_checkpoint`` of a work dir, or None if there is no such file."""
    try:
        with open(osp.join(work_dir, POINTER)) as file:
            return file.read().strip() or None
    except (OSError, ValueError):
        return None


def newest_first(work_dir: str) -> Iterator[str]:
    first = pointed_at(work_dir)
    folder = work_dir
    numbered = re.compile(r'.*_\d+\.pth')
    if first is not None:
        numbered = re.compile(f'{numbered.pattern}|{alike(osp.basename(first)).pattern}')
        # A work dir that was moved or copied is resumed from its own files.
        here = osp.join(work_dir, osp.basename(first))
        if osp.exists(here) or not osp.isdir(osp.dirname(first)):
            first = here
        folder = osp.dirname(first)
        yield first
    with os.scandir(folder) as entries:
        found = [
            (entry.stat().st_mtime_ns, entry.path)
            for entry in entries
            if numbered.fullmatch(entry.name) and not entry.name.startswith(BEST)
        ]
    yield from (path for _, path in sorted(found, reverse=True) if path != first)


def publish(path: str) -> None:
    """Renames a file that was written beside ``path`` to ``path``, in one step. The step survives a
    loss of power if the file system can promise that."""
    _force_to_disk(path + WRITING, os.O_RDWR)
    os.replace(path + WRITING, path)
    _force_to_disk(osp.dirname(path) or '.', os.O_RDONLY)


def _force_to_disk(path: str, flags: int) -> None:
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in _CANNOT_SYNC and osp.exists(path):
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)


def check_folder(folder: str, setting: str) -> None:
    """Makes a folder, and tries there what every checkpoint needs: it writes, renames and removes a
    file.

    Raises:
        SettingsError: if that fails, before any work is lost; the message names ``setting``.
    """
    if '://' in str(folder):
        raise SettingsError(
            f'{setting}={folder}: runs write to folders, and an object store is none. Give a '
            'folder, local or mounted, and copy it afterwards'
        )
    if not _is_unicode(str(folder)):
        raise SettingsError(
            f'{setting}={ascii(str(folder))[1:-1]}: its name holds bytes that are no UTF-8, which '
            'logs and TensorBoard cannot write. Choose another --work-dir'
        )
    if str(folder).startswith('~') and not osp.isdir(str(folder).split(os.sep)[0]):
        raise SettingsError(
            f'{setting}={folder}: shells replace ~ by the home folder, and here none has: write '
            f'{osp.expanduser(folder)}'
        )
    probe = osp.join(folder, f'.can_be_written_{os.getpid()}')
    try:
        os.makedirs(folder, exist_ok=True)
        with open(probe + WRITING, 'w') as file:
            file.write('checkpoints are written like this')
        publish(probe)
        os.remove(probe)
    except OSError as error:
        for left in (probe + WRITING, probe):
            with suppress(OSError):
                os.remove(left)
        raise SettingsError(
            f'{setting}={folder} cannot be written: {error.strerror or error}. Choose another '
            '--work-dir, or mend its permissions'
        ) from error


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def remove_if_there(path: str) -> None:
    """Removes a file, if there is one."""
    with suppress(FileNotFoundError):
        os.remove(path)
