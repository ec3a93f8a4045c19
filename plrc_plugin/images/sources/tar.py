"""Tar files, such as WebDataset's. Members are read by their offsets."""

import posixpath
import struct
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Optional

from plrc_plugin.images.sources.files import File
from plrc_plugin.images.sources.kind import ShardError, ShardKind, unpacked

# Why a compressed one is refused, and what to do.
COMPRESSED = (
    'a compressed archive can only be read from its beginning to its end',
    'unpack it, or make an uncompressed .tar of it (gunzip, zstd -d)',
)
_PLACE = struct.Struct('<QQI')  # offset, size, checksum of the header that stands before it
_BLOCK = 512
_PACKED = (b'\x1f\x8b', b'BZh', b'\xfd7zXZ', b'\x28\xb5\x2f\xfd', b'\x04\x22\x4d\x18')
_TAIL = 1 << 16  # looked at behind the end mark; padding is zeros


class TarShards(ShardKind):
    """Uncompressed tar files of any flavour. Links to members of the same file are followed."""

    suffixes = ('.tar',)

    def members(self, files: Any, file: File) -> Iterator[tuple[Optional[str], bytes]]:
        with files.open(file) as opened:
            yield from _members(opened, file.path)

    def read(self, files: Any, file: File, place: bytes) -> bytes:
        offset, size, checksum = _PLACE.unpack(place)
        found = files.read(file, offset - _BLOCK, _BLOCK + size)
        header, content = found[:_BLOCK], found[_BLOCK:]
        if len(content) != size:
            raise ValueError(f'it is cut off after {len(content)} of {size} bytes')
        if zlib.crc32(header) != checksum:
            raise ValueError('another member begins here: its shard is damaged, or changed')
        return content


def _members(file: BinaryIO, path: str) -> Iterator[tuple[str, bytes]]:
    places: dict[str, bytes] = {}
    links = []
    name = ''
    try:
        with tarfile.open(fileobj=file, mode='r:', errors='surrogateescape') as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # it would keep all
                name = unpacked(member.name)
                if member.isreg() and not member.issparse():
                    file.seek(member.offset_data - _BLOCK)
                    checksum = zlib.crc32(file.read(_BLOCK))
                    places[name] = _PLACE.pack(member.offset_data, member.size, checksum)
                elif member.islnk() or member.issym():
                    places.pop(name, None)
                    folder = posixpath.dirname(name) if member.issym() else ''
                    links.append((name, unpacked(posixpath.join(folder, member.linkname))))
            _check_end(file, archive.offset, path, name)
    except (tarfile.TarError, EOFError) as error:
        reason = str(error)
        if 'unexpected end' in reason:
            reason = f'it is cut off at member {name!r}'
        file.seek(0)
        if file.read(6).startswith(_PACKED):
            raise ShardError(path, *COMPRESSED) from error
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
