"""Reads the bytes of shards and of images at addresses, from this machine's disks or by fsspec."""

import glob
import io
import os
import stat
import time
from collections.abc import Mapping
from typing import Any, BinaryIO, Callable, NamedTuple, Optional, TypeVar

from plrc_plugin.errors import SettingsError
from plrc_plugin.images.missing import needs

T = TypeVar('T')

# Seconds between tries. So a store may be unreachable for a minute.
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_BLOCK = 4 * 2**20  # bytes that are read at once when a whole shard is read


class File(NamedTuple):
    """A file as it was when it was listed."""

    path: str
    size: int
    stamp: str  # its modification time, or the value that a store gives in its place


def is_address(path: str) -> bool:
    """Whether a path is an address of fsspec: s3://..., gs://..., https://..."""
    scheme, found, _ = path.partition('://')
    return bool(found) and scheme.replace('+', '').replace('-', '').isalnum() and len(scheme) > 1


class LocalFiles:
    """Files on the file systems of this machine."""

    remote = False

    def stat(self, path: str) -> File:
        """Raises OSError if there is no such file."""
        status = os.stat(path)
        return File(path, status.st_size, str(status.st_mtime_ns))

    def matching(self, pattern: str) -> list[str]:
        """Returns the files that match a pattern of the shell, sorted; ``**`` stands for
        folders."""
        return sorted(filter(os.path.isfile, glob.glob(pattern, recursive=True)))

    def open(self, file: File, buffering: int = _BLOCK) -> BinaryIO:
        """Opens a file for reading at any place. Raises SettingsError as :meth:`read`."""
        self.check(file)
        return open(file.path, 'rb', buffering=buffering)

    def read(self, file: File, start: int, size: int) -> bytes:
        """Reads a part of a file.

        Raises:
            SettingsError: if the file is gone, or has changed since it was listed.
        """
        try:
            with open(file.path, 'rb', buffering=0) as opened:
                status = os.fstat(opened.fileno())
                self._compare(file, status)
                opened.seek(start)
                content = opened.read(size)
                while len(content) < size and (more := opened.read(size - len(content))):
                    content += more
                return content
        except OSError as error:
            raise SettingsError(
                f'{file.path} cannot be read ({error.strerror or error}): put it back, or start '
                'again without it'
            ) from error

    def read_whole(self, path: str, size: Optional[int] = None) -> bytes:
        """Raises OSError where there is none."""
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError('not a regular file')
        with open(path, 'rb') as file:
            return file.read()

    def check(self, file: File) -> None:
        """Raises SettingsError if a file is gone, or has changed since it was listed."""
        try:
            self._compare(file, os.stat(file.path))
        except OSError as error:
            raise SettingsError(
                f'{file.path} cannot be read ({error.strerror or error}): put it back, or start '
                'again without it'
            ) from error

    def _compare(self, file: File, status: os.stat_result) -> None:
        if (status.st_size, str(status.st_mtime_ns)) != file[1:]:
            raise changed(file)


class RemoteFiles:
    """Files of a store that fsspec knows. No process uses a connection that another one opened.

    Args:
        address: any address in the store.
        options: options of its file system, such as ``dict(anon=True)``.

    Raises:
        SettingsError: if no library for the store is installed.
    """

    remote = True

    def __init__(self, address: str, options: Optional[Mapping[str, Any]] = None):
        self.scheme, self.options = address.partition('://')[0], dict(options or {})
        self._checked: tuple[int, set[str]] = (os.getpid(), set())
        assert self.system is not None

    @property
    def system(self) -> Any:
        """Returns the file system of this process; fsspec makes one for each process."""
        fsspec = needs('fsspec', 'remote', f'data_root={self.scheme}://...')
        try:
            return fsspec.filesystem(self.scheme, **self.options)
        except ImportError as error:
            raise SettingsError(
                f"data_root={self.scheme}://... needs a library: pip install 'plrc_plugin[remote]' "
                f'({" ".join(str(error).split())})'
            ) from error
        except (ValueError, TypeError) as error:
            raise SettingsError(
                f'data_root={self.scheme}://... cannot be used: {" ".join(str(error).split())}'
            ) from error

    def stat(self, path: str) -> File:
        """Raises FileNotFoundError if there is no such file."""
        system = self.system
        system.invalidate_cache()
        return self._file(path, self.patiently(path, lambda: system.info(path)))

    def _file(self, path: str, info: Mapping) -> File:
        if info.get('type') == 'directory':
            raise IsADirectoryError(path)
        if info.get('size') is None:
            raise SettingsError(f'{path}: its server does not say how large it is: copy it to disk')
        stamps = ('ETag', 'etag', 'LastModified', 'mtime', 'created')
        stamp = next((str(info[name]) for name in stamps if info.get(name)), '')
        return File(path, int(info['size']), stamp)

    def matching(self, pattern: str) -> list[str]:
        """Returns the addresses that match a pattern, sorted."""
        system = self.system
        found = self.patiently(pattern, lambda: system.glob(pattern))
        return sorted(system.unstrip_protocol(path) for path in found)

    def below(self, root: str) -> list[tuple[str, int]]:
        """Returns (path relative to the root, size) of every file below a root."""
        system = self.system
        system.invalidate_cache()
        start = system._strip_protocol(root).rstrip('/') + '/'
        found = self.patiently(root, lambda: system.find(root, detail=True))
        return [
            (path[len(start) :], info.get('size') or 0)
            for path, info in found.items()
            if path.startswith(start) and info.get('type') != 'directory'
        ]

    def open(self, file: File, buffering: int = _BLOCK) -> BinaryIO:
        """Opens a file for reading at any place. Raises SettingsError as :meth:`read`."""
        ranges = _Ranges(self, file)
        return io.BufferedReader(ranges, buffering) if buffering else ranges

    def read(self, file: File, start: int, size: int) -> bytes:
        """Reads a part of a file.

        Raises:
            SettingsError: if it cannot be read after several tries, or has changed.
        """
        self.check(file)
        end = min(start + size, file.size)

        def work() -> bytes:
            content = self.system.cat_file(file.path, start=start, end=end)
            if len(content) > end - start:
                raise SettingsError(
                    f'{file.path}: its server gives no parts of files: copy it to disk'
                )
            return _whole(content, end - start)

        try:
            return self.patiently(file.path, work)
        except FileNotFoundError as error:
            raise changed(file) from error

    def read_whole(self, path: str, size: Optional[int] = None) -> bytes:
        """Raises FileNotFoundError if there is no such file."""
        return self.patiently(path, lambda: _whole(self.system.cat_file(path), size))

    def check(self, file: File) -> None:
        """Raises SettingsError if a file has changed. Each process checks it once."""
        if self._checked[0] != os.getpid():
            self._checked = os.getpid(), set()
        if file.path in self._checked[1]:
            return
        try:
            if self.stat(file.path) != file:
                raise changed(file)
        except FileNotFoundError as error:
            raise changed(file) from error
        self._checked[1].add(file.path)

    def patiently(self, path: str, action: Callable[[], T]) -> T:
        """Returns what an action returns. The action is tried again if the store is busy or the
        connection breaks.

        Raises:
            SettingsError: if the last try fails, or access is denied.
        """
        for number in range(len(WAITS) + 1):
            try:
                return action()
            except (SettingsError, FileNotFoundError, IsADirectoryError):
                raise
            except Exception as error:  # each store raises errors of its own
                if isinstance(error, PermissionError) or 'Credentials' in type(error).__name__:
                    raise SettingsError(
                        f'{path} may not be read ({_line(error)}): set credentials as its library '
                        'reads them, or storage_options=dict(anon=True) for a public one'
                    ) from error
                if number == len(WAITS):
                    raise SettingsError(
                        f'{path} could not be read in {number + 1} tries ({_line(error)}): see '
                        'whether the store can be reached, then go on with --resume'
                    ) from error
            time.sleep(WAITS[number])
        raise AssertionError  # the last try returns or raises


class _Ranges(io.RawIOBase):
    """A file at an address. Each read fetches only the bytes that it asks for."""

    def __init__(self, files: RemoteFiles, file: File):
        self._files, self._file, self._place = files, file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._file.size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), max(0, self._file.size - self._place))
        content = self._files.read(self._file, self._place, size) if size else b''
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


def files_of(path: str, options: Optional[Mapping[str, Any]] = None):
    """Returns the kind of files that a path belongs to."""
    return RemoteFiles(path, options) if is_address(path) else LocalFiles()


def changed(file: File) -> SettingsError:
    """Returns the error for a shard that has changed."""
    return SettingsError(
        f'{file.path} has changed since its index was made: let it be written to its end, then '
        'start again, and the index is made anew'
    )


def _whole(content: bytes, size: Optional[int]) -> bytes:
    if size is not None and len(content) != size:
        raise OSError(f'{len(content)} of {size} bytes came')
    return content


def _line(error: BaseException) -> str:
    return ' '.join(f'{type(error).__name__}: {error}'.split())[:300]
