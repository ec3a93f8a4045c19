"""Zip files. Members, stored or deflated, are read by the offsets in the directory."""

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Optional

from plrc_plugin.images.decoding import EXTENSIONS
from plrc_plugin.images.sources.files import File
from plrc_plugin.images.sources.kind import ShardError, ShardKind, unpacked

# Of a member: the offset of its header, its stored size, its size, its checksum, whether it is
# deflated, and the length of its header as far as the directory tells it.
_PLACE = struct.Struct('<QQQI?I')
_HEADER = struct.Struct('<4s22xHH')
_OF_DOS = 0  # where some programs write backslashes for slashes
_SPARE = 64  # the header of a member may have longer extra fields than the directory
_METHODS = {zipfile.ZIP_STORED: False, zipfile.ZIP_DEFLATED: True}
_REMEDY = 'pack it again with zip -0, because images do not become smaller'


class ZipShards(ShardKind):
    """Zip files, also of more than 4 GB. The directory is at the end of the file, and only it is
    read first."""

    suffixes = ('.zip',)

    def members(self, files: Any, file: File) -> Iterator[tuple[Optional[str], bytes]]:
        with files.open(file) as opened:
            yield from _members(opened, file.path)

    def read(self, files: Any, file: File, place: bytes) -> bytes:
        offset, stored, size, checksum, deflated, header = _PLACE.unpack(place)
        found = files.read(file, offset, min(header + stored, file.size - offset))
        mark, name_size, extra_size = _HEADER.unpack_from(found)
        if mark != b'PK\x03\x04':
            raise ValueError('its header is damaged')
        start = _HEADER.size + name_size + extra_size
        if len(found) < start + stored:
            found += files.read(file, offset + len(found), start + stored - len(found))
        content = found[start : start + stored]
        if deflated:
            # One byte more than the stated size reveals a decompression bomb without unpacking it.
            content = zlib.decompressobj(-15).decompress(content, size + 1)
        if len(content) != size or zlib.crc32(content) != checksum:
            raise ValueError('its content is not that of its checksum: damaged')
        return content


def _members(file: BinaryIO, path: str) -> Iterator[tuple[str, bytes]]:
    places: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                name = _name(info)
                if info.is_dir() or not name.lower().endswith(EXTENSIONS):
                    continue
                if info.flag_bits & 1:
                    raise ShardError(path, f'member {name!r} is encrypted', 'unpack it first')
                if info.compress_type not in _METHODS:
                    raise ShardError(
                        path, f'member {name!r} is packed by method {info.compress_type}', _REMEDY
                    )
                header = _HEADER.size + len(os.fsencode(name)) + len(info.extra) + _SPARE
                places[unpacked(name)] = _PLACE.pack(
                    info.header_offset,
                    info.compress_size,
                    info.file_size,
                    info.CRC,
                    _METHODS[info.compress_type],
                    header,
                )
    except (zipfile.BadZipFile, EOFError, struct.error, ValueError, NotImplementedError) as error:
        if isinstance(error, ShardError):
            raise
        raise ShardError(path, f'{error} (it may be cut off)') from error
    yield from places.items()  # if a name occurs twice, the later member is taken, as unzip does


def _name(info: zipfile.ZipInfo) -> str:
    """Without the flag of UTF-8, zipfile takes names for those of DOS; on Unix they are bytes."""
    name = info.filename
    if not (info.flag_bits & 0x800 or name.isascii()):
        name = os.fsdecode(name.encode('cp437'))
    return name.replace('\\', '/') if info.create_system == _OF_DOS else name
