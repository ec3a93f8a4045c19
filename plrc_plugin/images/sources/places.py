"""Finds out what a ``data_root`` means: a folder, a shard, several shards, or an address."""

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

from mmengine.logging import print_log

from plrc_plugin.errors import SettingsError
from plrc_plugin.images.decoding import EXTENSIONS
from plrc_plugin.images.sources.files import File, files_of, is_address
from plrc_plugin.images.sources.kind import ShardError, ShardKind
from plrc_plugin.images.sources.tables import ArrowShards, ParquetShards
from plrc_plugin.images.sources.tar import COMPRESSED, TarShards
from plrc_plugin.images.sources.zip import ZipShards

KINDS: tuple[type[ShardKind], ...] = (TarShards, ZipShards, ParquetShards, ArrowShards)
SUFFIXES = tuple(suffix for kind in KINDS for suffix in kind.suffixes)
_PACKED = re.compile(r'\.(tar\.\w+|tgz|tbz2?|txz|tzst|7z|rar|gz|bz2|xz|zst)$', re.IGNORECASE)
_GLOB = re.compile(r'[*?[]|\{\d+\.\.\d+\}')
_SPLIT = re.compile(r'(?:^|[-_/.])(train|test|val|valid|validation|dev)(?=[-_./])')
_RANGE = re.compile(r'\{(\d+)\.\.(\d+)\}')


class Place(NamedTuple):
    """Where images are.

    Attributes:
        root: the folder that this place stands for. Names of images are relative to it.
        files: the files that hold the images.
        shards: the shards; none for a folder at an address.
        inner: the folder within the shards to take, or '' for everything.
        found: (name, size) of the files of a folder at an address.
    """

    root: str
    files: Any
    shards: list[File]
    inner: str = ''
    found: Sequence[tuple[str, int]] = ()


def is_plain(root: str) -> bool:
    """Whether a root is a folder of this machine, or does not exist."""
    if is_address(root) or kind_of(root) or _PACKED.search(root):
        return False
    return os.path.isdir(root) or not (_through(root) or _GLOB.search(root))


def holds_shards(root: str) -> bool:
    """Whether a folder holds shards, at any depth, or is one that ``datasets`` saved. Compressed
    archives count as shards: what is said of them is said where shards are looked for."""
    inside = (name for _, _, names in os.walk(root, followlinks=True) for name in names)
    return any(
        name == 'dataset_dict.json' or kind_of(name) or _PACKED.search(name) for name in inside
    )


def kind_of(path: str) -> Optional[type[ShardKind]]:
    """Returns the kind of a shard, by its extension."""
    return next((kind for kind in KINDS if path.lower().endswith(kind.suffixes)), None)


def find_place(
    root: str, options: Optional[Mapping[str, Any]] = None, listed: bool = False
) -> Place:
    """Finds the shards or the address that a root means.

    ``x.tar`` stands for the folder ``x``, ``x.tar/train`` for ``x/train``, and ``x/*.tar``,
    ``x/{000..099}.tar`` and a folder ``x`` of shards for ``x``.

    Args:
        root: a path, a pattern or an address.
        options: options of the file system of an address.
        listed: whether images come from a list. An address that names neither a shard nor a pattern
            is then taken as a folder of images without looking at it.

    Raises:
        SettingsError: if there is none.
    """
    if root.startswith('file://'):
        root = root[len('file://') :]
    files = files_of(root, options)
    if _PACKED.search(root):
        raise ShardError(
            root,
            *COMPRESSED,
        )
    if _GLOB.search(root) and not (not files.remote and os.path.exists(root)):
        return _several(root, files)
    outer, inner = _through(root) or (root, '')
    if kind_of(outer) and not (not files.remote and os.path.isdir(outer)):
        folder = outer.rpartition('.')[0]
        return Place(_join(folder, inner), files, [_stat(files, outer)], inner)
    if not files.remote:
        return _folder(root, files)
    return Place(root.rstrip('/'), files, []) if listed else _folder_at(root.rstrip('/'), files)


def _through(root: str) -> Optional[tuple[str, str]]:
    """Splits a path that leads through a shard into the shard and the folder in it."""
    parts = root.replace(os.sep, '/').split('/')
    for number in range(1, len(parts)):
        outer = '/'.join(parts[:number])
        if kind_of(outer) and (is_address(root) or os.path.isfile(outer)):
            return outer, '/'.join(parts[number:]).strip('/')
    return None


def _several(pattern: str, files: Any) -> Place:
    """Finds the place of a pattern, whose files are shards."""
    found = [
        path
        for each in _ranges(pattern)
        for path in (files.matching(each) if _GLOB.search(each) else [each])  # some may be missing
    ]
    shards = [path for path in dict.fromkeys(found) if kind_of(path)]
    if not shards:
        what = f'{len(found)} files, but no shard' if found else 'no file'
        raise SettingsError(
            f'data_root={pattern!r} matches {what} ({", ".join(SUFFIXES)}): mend the pattern'
        )
    before = pattern[: _GLOB.search(pattern).start()].replace(os.sep, '/')
    return Place(before.rpartition('/')[0], files, [_stat(files, path) for path in shards])


def _ranges(pattern: str) -> list[str]:
    """Writes out WebDataset's {000..123}."""
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    numbers = range(int(first), int(last) + 1)
    return [
        each
        for number in numbers
        for each in _ranges(
            f'{pattern[: match.start()]}{number:0{len(first)}}{pattern[match.end() :]}'
        )
    ]


def _folder(root: str, files: Any) -> Place:
    """Finds the place of a folder that holds shards and no images."""
    names = _shards_of_saved(root) or [
        os.path.relpath(os.path.join(folder, name), root)
        for folder, _, inside in os.walk(root, followlinks=True)
        for name in inside
    ]
    return _place_of(root, files, names)


def _folder_at(root: str, files: Any) -> Place:
    """Finds the place of a folder at an address: its images or, if there are none, its shards."""
    try:
        found = files.below(root)
    except FileNotFoundError as error:
        raise SettingsError(f'data_root={root!r}: {error}: mend the address') from error
    if any(name.lower().endswith(EXTENSIONS) for name, _ in found):
        return Place(root, files, [], found=found)
    return _place_of(root, files, [name for name, _ in found])


def _place_of(root: str, files: Any, names: list[str]) -> Place:
    shards = sorted(name for name in names if kind_of(name))
    packed = sorted(name for name in names if _PACKED.search(name))
    if packed and not shards:
        raise ShardError(_join(root, packed[0]), *COMPRESSED)
    if packed:
        print_log(
            f'data_root={root!r}: compressed archives are not read, {len(packed)} of them, such as '
            f'{packed[0]}: {COMPRESSED[1]}',
            'current',
            logging.WARNING,
        )
    if not shards:
        raise SettingsError(
            f'data_root={root!r} holds neither images nor shards ({", ".join(SUFFIXES)}): see '
            'whether it is the right one'
        )
    splits = sorted({match[1] for match in map(_SPLIT.search, shards) if match})
    if len(splits) > 1:
        print_log(
            f'data_root={root!r} holds shards of the splits {", ".join(splits)}, and all of them '
            f'are read: to take one, name its shards by a pattern, {root}/*{splits[0]}*',
            'current',
            logging.WARNING,
        )
    return Place(root, files, [_stat(files, _join(root, name)) for name in shards])


def _shards_of_saved(root: str) -> list[str]:
    """Returns the shards that a folder of ``save_to_disk`` lists."""
    if os.path.exists(os.path.join(root, 'dataset_dict.json')):
        with open(os.path.join(root, 'dataset_dict.json')) as file:
            splits = json.load(file).get('splits')
        raise SettingsError(
            f'data_root={root!r} holds the splits {splits}: name the folder of one of them'
        )
    state = os.path.join(root, 'state.json')
    if not os.path.exists(state):
        # Other files that `datasets` caches beside a split are results of maps and filters.
        return [
            name
            for name in sorted(os.listdir(root))
            if name.endswith('.arrow') and not name.startswith('cache-')
        ]
    try:
        with open(state) as file:
            names = [entry['filename'] for entry in json.load(file)['_data_files']]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShardError(state, error, 'save the data set anew') from error
    missing = [name for name in names if not os.path.exists(os.path.join(root, name))]
    if missing:
        raise ShardError(root, f'its state.json names {missing[0]}, which is not there')
    return names


def _stat(files: Any, path: str) -> File:
    try:
        return files.stat(path)
    except OSError as error:
        raise SettingsError(
            f'data_root: {path!r} cannot be read ({error.strerror or type(error).__name__}): see '
            'whether it is the right path, and give yourself the right to read it'
        ) from error


def _join(folder: str, name: str) -> str:
    return f'{folder}/{name}' if name else folder
