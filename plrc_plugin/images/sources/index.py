"""The images in shards or at an address. One index is made once, and from it any image can be read
directly."""

import os
import struct
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Optional

import numpy as np
from mmengine.logging import print_log

from plrc_plugin.errors import SettingsError
from plrc_plugin.images.cache import (
    SETTLED_NS,
    WORTH_REMEMBERING,
    kept_at,
    one_at_a_time,
    recall,
    remember,
)
from plrc_plugin.images.companions import (
    RULES,
    is_apple_double,
    is_companion_folder,
    is_companion_name,
)
from plrc_plugin.images.decoding import EXTENSIONS, DecodingError
from plrc_plugin.images.file_index import FileIndex
from plrc_plugin.images.patterns import Selection
from plrc_plugin.images.sources.files import File
from plrc_plugin.images.sources.kind import ShardKind, stem, unpacked
from plrc_plugin.images.sources.places import Place, find_place, kind_of
from plrc_plugin.images.stored import StoredImage

_VERSION = 'shards 2'
_SHARD = struct.Struct('<I')
_SIZE = struct.Struct('<Q')
_UNKNOWN = 2**64 - 1  # stands for the size of a listed image, which is not known


class Source:
    """Images in shards or at an address. The object can be pickled and used in any process.

    Args:
        root: see :func:`~plrc_plugin.images.sources.places.find_place`.
        selection: tells which of them to take.
        options: options of the file system of an address.
        shard_names: whether names begin with the name of their shard.
        columns: the settings ``image_column`` and ``name_column``, for tables.
        listed: whether the images come from a list. An address is then a folder of images, and its
            files need not be listed.

    Attributes:
        root (str): the folder that the shards or the address stand for.

    Raises:
        SettingsError: if there is nothing at the root, or it cannot be used.
    """

    def __init__(
        self,
        root: str,
        selection: Selection = Selection(),  # noqa: B008 (it is not changed)
        options: Optional[Mapping[str, Any]] = None,
        shard_names: bool = False,
        columns: Optional[Mapping[str, Optional[str]]] = None,
        listed: bool = False,
    ):
        self.given, self.selection, self.shard_names = root, selection, shard_names
        self.place: Place = find_place(root, options, listed)
        self.root = self.place.root
        self.kind = self._kind(columns or {}) if self.place.shards else None
        self._left_out: Counter = Counter()  # number of files that are no photographs, by kind

    def _kind(self, columns: Mapping[str, Optional[str]]) -> ShardKind:
        kinds = {kind_of(shard.path) for shard in self.place.shards}
        if len(kinds) > 1:
            raise SettingsError(
                f'data_root={self.given!r} holds shards of several kinds, such as '
                f'{self.place.shards[0].path!r} and {self.place.shards[-1].path!r}: name those of '
                'one kind by a pattern'
            )
        (kind,) = kinds
        assert kind is not None
        if kind.of_rows:
            return kind(**columns)
        if any(columns.values()):
            raise SettingsError(
                f'data_root={self.given!r} has no columns: leave image_column and name_column out'
            )
        return kind()

    def index(self) -> FileIndex:
        """Returns the names with the places of their images, sorted like those of a folder.

        It is kept from run to run. It holds as long as the shards have the same names, sizes and
        times, on a disk also that of the last change of any kind, which nobody can set back.

        Raises:
            SettingsError: if a shard is broken, or two images have the same name.
        """
        if not self.place.shards:
            return self._packed(self._of_address())
        path = self._kept_at()
        found = self._recall(path)
        if found is None:
            with one_at_a_time(path):
                found = self._recall(path)  # another process may have made it meanwhile
                if found is None:
                    started = time.time_ns()
                    found = self._packed(self._of_shards())
                    if self._worth_keeping(found, started):
                        remember(path, names=found.names, ends=found.ends, shards=self._described())
        return found

    def chosen(self, names: Iterable[str]) -> FileIndex:
        """Returns the images of a list, in its order. Images that do not exist are marked as
        missing."""
        names = list(names)
        if not self.place.shards:
            sized = _SIZE.pack(_UNKNOWN)
            return _pack([os.fsencode(name) + b'\0' + sized for name in names])
        index, wanted, start = self.index(), set(map(os.fsencode, names)), 0
        buffer, entries = index.names.tobytes(), {}
        for end in index.ends.tolist():
            name = buffer[start : buffer.index(b'\0', start)]
            if name in wanted:
                entries[name] = buffer[start:end]
            start = end
        if not entries:
            raise SettingsError(
                f'none of the {len(names)} listed images, such as {names[0]!r}, is in '
                f'data_root={self.given!r}: names in a list are relative to the shard'
            )
        encoded = [os.fsencode(name) for name in names]
        return _pack([entries.get(name, name + b'\0') for name in encoded])

    def image(self, name: str, place: bytes) -> StoredImage:
        """Returns an image by its entry in the index."""
        return _Stored(self, name, place)

    def read(self, name: str, place: bytes) -> bytes:
        """Reads the content, see :class:`~plrc_plugin.images.stored.StoredImage`."""
        files = self.place.files
        try:
            if self.kind is None:
                (size,) = _SIZE.unpack(place)
                address = f'{self.root}/{name}'
                return files.read_whole(address, None if size == _UNKNOWN else size)
            if not place:
                raise FileNotFoundError(2, 'it is not in the shards')
            shard = self.place.shards[_SHARD.unpack_from(place)[0]]
            return self.kind.read(files, shard, place[_SHARD.size :])
        except SettingsError:
            raise
        except Exception as error:  # this image alone; each kind has its errors
            raise DecodingError(self.where(name, place), error) from error

    def where(self, name: str, place: bytes) -> str:
        """Returns the file and, in a shard, the member, for messages."""
        if self.kind is None:
            return f'{self.root}/{name}'
        shard = self.place.shards[_SHARD.unpack_from(place)[0]].path if place else self.given
        return f'{shard}: {name}'

    # How the index is made, and kept.

    def _of_address(self) -> Iterable[bytes]:
        found, self.place = self.place.found, self.place._replace(found=[])
        for name, size in found:
            if self._is_image(name) and self.selection.takes(name):
                yield os.fsencode(name) + b'\0' + _SIZE.pack(size)

    def _of_shards(self) -> list[bytes]:
        entries, count = [], 0
        for shard, name, place in self._members():
            count += 1
            if name is not None and (name := self._name(name, shard, place)) is not None:
                entries.append(os.fsencode(name) + b'\0' + place)
        return self._of_rows(entries, count) if self.kind.of_rows else entries

    def _members(self) -> Iterator[tuple[File, Optional[str], bytes]]:
        for number, shard in enumerate(self.place.shards):
            before = _SHARD.pack(number)
            for name, place in self.kind.members(self.place.files, shard):
                yield shard, name, before + place

    def _of_rows(self, named: list[bytes], rows: int) -> list[bytes]:
        """Makes entries of rows by their names or, if these are not unique, by their numbers."""
        different = len({entry[: entry.index(b'\0')] for entry in named})
        if different < rows:
            named = self._numbered(different, rows)
        if not self.selection:
            return named
        return [e for e in named if self.selection.takes(os.fsdecode(e[: e.index(b'\0')]))]

    def _numbered(self, different: int, rows: int) -> list[bytes]:
        if self.kind.name_column is not None:
            raise SettingsError(
                f'data_root={self.given!r}: its {rows} rows have {different} different names in '
                f'column {self.kind.name_column!r}: leave name_column out, and numbers name them'
            )
        print_log(
            f'data_root={self.given!r}: its rows have no names that tell them apart, and are '
            'called by their numbers',
            'current',
        )
        stems = {shard.path: stem(shard.path) for shard in self.place.shards}
        if len(set(stems.values())) < len(stems):
            stems = {path: f'{n:05}_{name}' for n, (path, name) in enumerate(stems.items())}
        entries, numbers = [], Counter()
        for shard, _, place in self._members():
            name = f'{stems[shard.path]}/{numbers[shard.path]:010}'
            numbers[shard.path] += 1
            entries.append(os.fsencode(name) + b'\0' + place)
        return entries

    def _name(self, name: str, shard: File, place: bytes) -> Optional[str]:
        """The name of an image relative to the root; None of what is none."""
        name = unpacked(name)
        if not self.kind.of_rows and not self._is_image(name, place):
            return None
        inner = self.place.inner
        if inner:
            if not name.startswith(f'{inner}/'):
                return None
            name = name[len(inner) + 1 :]
        if self.shard_names:
            name = f'{stem(shard.path)}/{name}'
        return name if self.kind.of_rows or self.selection.takes(name) else None

    def _is_image(self, path: str, place: bytes = b'') -> bool:
        if not path.lower().endswith(EXTENSIONS):
            return False
        *folders, name = path.split('/')
        if any(map(is_companion_folder, folders)):
            self._left_out[next(f'folders {f!r}' for f in folders if is_companion_folder(f))] += 1
            return False
        if is_companion_name(name) or (
            name.startswith('._') and place and is_apple_double(self.read(path, place)[:4])
        ):
            self._left_out[f'{name[:2]}* files'] += 1
            return False
        return True

    def _packed(self, entries: Iterable[bytes]) -> FileIndex:
        entries = list(entries)
        if self._left_out:
            counted = ', '.join(f'{n} {kind}' for kind, n in sorted(self._left_out.items()))
            print_log(
                f'data_root={self.given!r}: left out what is no photograph: {counted}', 'current'
            )
            self._left_out.clear()
        if not entries:
            selected = f' that {self.selection} takes' if self.selection else ''
            raise SettingsError(
                f'data_root={self.given!r} holds no image{selected}, with one of the extensions '
                f'{", ".join(EXTENSIONS)}'
            )
        _sort(entries)
        if self.kind is not None:
            self._check_unique(entries)
        return _pack(entries)

    def _check_unique(self, entries: list[bytes]) -> None:
        for one, other in zip(entries, islice(entries, 1, None)):
            end = one.index(b'\0') + 1
            if other.startswith(one[:end]):
                name = os.fsdecode(one[: end - 1])
                shards = [
                    self.place.shards[_SHARD.unpack_from(entry, end)[0]].path
                    for entry in (one, other)
                ]
                raise SettingsError(
                    f'{name!r} is both in {shards[0]} and in {shards[1]}: leave one of them out, '
                    'or set shard_names=True, and the name of the shard begins each name'
                )

    def _described(self) -> np.ndarray:
        """Describes what an index is valid for: the shards, their sizes and times."""
        state = [(path, *shard[1:]) for path, shard in zip(self._paths(), self.place.shards)]
        if not self.place.files.remote:
            state = [(*one, os.stat(one[0]).st_ctime_ns) for one in state]
        return np.frombuffer(repr(state).encode('utf-8', 'surrogateescape'), np.uint8)

    def _paths(self) -> list[str]:
        paths = [shard.path for shard in self.place.shards]
        return paths if self.place.files.remote else list(map(os.path.realpath, paths))

    def _kept_at(self) -> str:
        settings = (self.kind.settings(), str(self.selection), str(self.shard_names))
        return kept_at(_VERSION, RULES, *EXTENSIONS, *settings, self.place.inner, *self._paths())

    def _recall(self, path: str) -> Optional[FileIndex]:
        state = self._described()
        kept = recall(path, lambda kept: np.array_equal(kept['shards'], state))
        if kept is None or not {'names', 'ends'} <= kept.keys():
            return None
        return FileIndex(kept['names'], kept['ends'])

    def _worth_keeping(self, index: FileIndex, started: int) -> bool:
        if self.place.files.remote:
            return True
        newest = max(int(shard.stamp) for shard in self.place.shards)
        return len(index.ends) >= WORTH_REMEMBERING and newest < started - SETTLED_NS


class _Stored(StoredImage):
    def __init__(self, source: Source, name: str, place: bytes):
        self._source, self._name, self._place = source, name, place
        self._content: Optional[bytes] = None

    def read(self) -> bytes:
        if self._content is None:  # views and regions read the same image one after the other
            self._content = self._source.read(self._name, self._place)
        return self._content

    def __str__(self) -> str:
        return self._source.where(self._name, self._place)


def _pack(entries: list[bytes]) -> FileIndex:
    ends = np.cumsum(np.fromiter(map(len, entries), np.int64, len(entries)))
    return FileIndex(np.frombuffer(b''.join(entries), np.uint8), ends)


def _sort(entries: list[bytes]) -> None:
    """Sorts names as Python sorts text. UTF-8 has the same order as its bytes, but names may also
    be other bytes."""
    try:
        for entry in entries:
            entry[: entry.index(b'\0')].decode()
        entries.sort()
    except UnicodeDecodeError:
        entries.sort(key=lambda entry: os.fsdecode(entry[: entry.index(b'\0')]))
