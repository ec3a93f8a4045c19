"""Tar files, such as WebDataset's. Members are read by their offsets."""

import posixpath
import struct
import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO, Optional

from plrc_plugin.images.sources.files import File
from plrc_plugin.images.sources.kind import ShardError, ShardKind

_PLACE = struct.Struct('<QQ')  # offset and size
_BLOCK = 512
_TAIL = 1 << 16  # bytes that are checked behind the end mark; padding is zeros


class TarShards(ShardKind):
    """Uncompressed tar files of any flavour. Links to members of the same file are followed."""

    suffixes = ('.tar',)

    def members(self, files: Any, file: File) -> Iterator[tuple[Optional[str], bytes]]:
        with files.open(file) as opened:
            yield from _members(opened, file.path)

    def read(self, files: Any, file: File, place: bytes) -> bytes:
        offset, size = _PLACE.unpack(place)
        content = files.read(file, offset, size)
        if len(content) != size:
            raise ValueError(f'it is cut off after {len(content)} of {size} bytes')
        return content


def _members(file: BinaryIO, path: str) -> Iterator[tuple[str, bytes]]:
    places: dict[str, bytes] = {}
    links = []
    name = ''
    try:
        with tarfile.open(fileobj=file, mode='r:', errors='surrogateescape') as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # tarfile would keep all members in memory
                name = posixpath.normpath(member.name)
                if member.isreg() and not member.issparse():
                    places[name] = _PLACE.pack(member.offset_data, member.size)
                elif member.islnk() or member.issym():
                    places.pop(name, None)
                    folder = posixpath.dirname(name) if member.issym() else ''
                    target = posixpath.join(folder, member.linkname)
                    links.append((name, posixpath.normpath(target)))
            _check_end(file, archive.offset, path, name)
    except (tarfile.TarError, EOFError) as error:
        reason = str(error)
        if 'unexpected end' in reason:
            reason = f'it is cut off at member {name!r}'
        raise ShardError(path, reason) from error
    for name, target in links:
        if target in places and name not in places:
            places[name] = places[target]
    yield from places.items()


def _check_end(file: BinaryIO, offset: int, path: str, last: str) -> None:
    """Raises an error unless the file ends with an end mark. tarfile takes a damaged header, or the
    end of a file that was cut off, for the end."""
    file.seek(offset)
    tail = file.read(_BLOCK + _TAIL)
    if len(tail) < _BLOCK or any(tail[:_BLOCK]):
        broken = len(tail) >= _BLOCK
        raise ShardError(
            path,
            f'what follows its member {last!r} is no member'
            if broken
            else f'it has no end mark after member {last!r}: it was cut off',
        )
    if any(tail):
        raise ShardError(
            path,
            f'it goes on behind its end mark after member {last!r}',
            'join archives with tar --concatenate, or unpack and pack them anew',
        )
