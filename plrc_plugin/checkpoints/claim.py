"""One run owns a work dir: a second one is refused, and no earlier checkpoint is written over."""

import errno
import json
import os
import os.path as osp
import re
import socket
import sys
import time
from collections.abc import Sequence
from typing import Optional

from mmengine.dist import broadcast_object_list, is_main_process

from plrc_plugin.checkpoints.work_dir import (
    BEST,
    POINTER,
    alike,
    pointed_at,
    remove_if_there,
)
from plrc_plugin.errors import SettingsError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = '.lock'
# A requeued job may start while the kernel, or a file server, is still ending the previous one.
PATIENCE = 20.0

_held: dict[str, int] = {}  # folder -> descriptor of the lock that this process holds
_OURS = re.compile(r'(epoch|iter)_\d+\.pth|' + re.escape(BEST) + r'.+\.pth')


def checkpoints_in(folder: str, beside: Sequence[str] = ()) -> list[str]:
    """Names of the checkpoints that a run has left in a folder, newest first.

    Their names follow mmengine's pattern, or the name that ``last_checkpoint`` of the folder, or of
    a folder in ``beside``, holds: the run may have set another ``filename_tmpl``.
    """
    patterns = [_OURS.pattern]
    for work_dir in (folder, *beside):
        name = osp.basename(pointed_at(work_dir) or '')
        if name:
            patterns.append(rf'({re.escape(BEST)}.+_)?{alike(name).pattern}')
    ours = re.compile('|'.join(patterns))
    try:
        with os.scandir(folder) as entries:
            found = [(e.stat().st_mtime_ns, e.name) for e in entries if ours.fullmatch(e.name)]
    except OSError:
        return []
    return [name for _, name in sorted(found, reverse=True)]


def check_unused(folders: Sequence[str]) -> None:
    """Raises SettingsError if one of the folders holds checkpoints of an earlier run."""
    for folder in folders:
        found = checkpoints_in(folder, folders)
        if found:
            raise SettingsError(
                f'{folder} holds {len(found)} checkpoints of an earlier run (newest {found[0]}), '
                'which a new run would write over. Go on from them with --resume, choose another '
                '--work-dir, or remove them and start anew with --overwrite (overwrite=True in a '
                'config)'
            )


def remove_checkpoints(folders: Sequence[str]) -> list[str]:
    """Removes what :func:`checkpoints_in` finds, and ``last_checkpoint``. Returns the paths
    removed."""
    paths = [
        osp.join(folder, name) for folder in folders for name in checkpoints_in(folder, folders)
    ]
    for path in [*(osp.join(folder, POINTER) for folder in folders), *paths]:
        remove_if_there(path)
    return paths


def claim(folder: str, patience: float = 0.0, logger=None) -> None:
    """Makes this process the only one that runs in ``folder``, until :func:`release` or its end.

    The lock is the kernel's (a POSIX record lock). It ends with the process that holds it, however
    that process ends, on network file systems too. The text in the lock file is for people to read.
    Loader workers do not inherit the lock. On a file system without such locks the run goes on and
    logs a warning.

    Raises:
        SettingsError: if another process holds it after ``patience`` seconds.
    """
    folder = osp.realpath(folder)
    if folder in _held:
        return
    path = osp.join(folder, LOCK)
    if fcntl is None:
        return
    deadline = time.monotonic() + patience
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        _say_unlocked(logger, folder, error)
        return
    while True:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                os.close(descriptor)
                _say_unlocked(logger, folder, error)
                return
        if time.monotonic() >= deadline:
            holder = os.read(descriptor, 4096)
            os.close(descriptor)
            raise SettingsError(
                f'another run is at work in {folder} ({_described(holder)}): wait for it, end it, '
                'or choose another --work-dir'
            )
        time.sleep(0.5)
    note = dict(host=socket.gethostname(), pid=os.getpid(), command=' '.join(sys.argv)[:500])
    note['since'] = time.strftime('%Y-%m-%d %H:%M:%S')
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(note).encode())
    except OSError:  # the disk may be full; the lock holds without the text
        pass
    _held[folder] = descriptor


def claim_folders(folders: Sequence[str], resume: bool, overwrite: bool, logger=None) -> None:
    """Makes this run the only one in its folders; process 0 decides for all.

    Raises:
        SettingsError: on every process, if one holds checkpoints that would be written over, or
            another run is at work there.
    """
    found = [None]
    if is_main_process():
        try:
            if resume and overwrite:
                raise SettingsError('--resume goes on from checkpoints that --overwrite removes')
            if not resume and not overwrite:
                check_unused([folder for folder in folders if not is_claimed(folder)])
            for folder in folders:
                if osp.isdir(folder):
                    claim(folder, PATIENCE if resume else 0.0, logger)
        except SettingsError as error:
            found = [error]
    broadcast_object_list(found)
    if found[0] is not None:
        raise found[0]


def release(folder: str) -> None:
    """Lets other processes run in ``folder``. The lock file stays, because removing it could race
    with another process that takes the lock."""
    descriptor = _held.pop(osp.realpath(folder), None)
    if descriptor is not None:
        os.close(descriptor)


def is_claimed(folder: str) -> bool:
    """Whether this process holds it."""
    return osp.realpath(folder) in _held


def _described(content: bytes) -> str:
    try:
        note = json.loads(content)
        return f'process {note["pid"]} on {note["host"]}, since {note["since"]}'
    except (ValueError, KeyError, TypeError):
        return 'it left no note of itself'


def _say_unlocked(logger, folder: str, error: OSError) -> None:
    if logger is not None:
        logger.warning(
            f'{folder} cannot be locked ({error.strerror or error}): a second run in it would not '
            'be noticed'
        )


def folders_of(cfg: dict, work_dir: Optional[str] = None) -> list[str]:
    """The folders in which a run of this config leaves checkpoints."""
    work_dir = osp.abspath(work_dir or cfg['work_dir'])
    hook = (cfg.get('default_hooks') or {}).get('checkpoint')
    out_dir = hook.get('out_dir') if isinstance(hook, dict) else None
    if out_dir is None or '://' in str(out_dir):
        return [work_dir]
    return [work_dir, osp.join(osp.abspath(out_dir), osp.basename(work_dir))]
