"""Describes the files of a data set: sizes, depths, damage, copies. No network is needed."""

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple, Optional

import numpy as np

from plrc_plugin.images.decoding import DecodingError
from plrc_plugin.images.rasters.opening import open_raster
from plrc_plugin.images.rasters.raster import MAX_PIXELS
from plrc_plugin.images.stored import image_source

_BLOCK = 2**20


class Description(NamedTuple):
    """A file of a data set.

    Attributes:
        path: its path.
        size: upright (width, height).
        kind: format, channels and type, such as 'JPEG, 3 x uint8'.
        channels: number of channels, with alpha.
        alpha: how many of them are alpha.
        dtype: type of the values.
        problem: why it cannot be read, in one line; '' if it can.
    """

    path: str
    size: tuple[int, int] = (0, 0)
    kind: str = ''
    channels: int = 0
    alpha: int = 0
    dtype: str = ''
    problem: str = ''


def describe(record: Mapping, decode: bool = False) -> Description:
    """Describes an image by its header. With ``decode`` its pixels are read too; of a large image,
    a part.

    Args:
        record: a record of :class:`~plrc_plugin.datasets.ImageFolder`.
        decode: whether to look at the pixels.
    """
    path = record['img_path']
    try:
        source, path = image_source(record)
        raster = open_raster(source, name=path)
        if decode:
            width, height = raster.size
            if raster.windowed and width * height > MAX_PIXELS:
                raster.read((0, 0, min(width, 1024), min(height, 1024)))
            else:
                raster.read()
        return Description(
            path,
            raster.size,
            str(raster),
            raster.channels,
            raster.alpha,
            str(raster.dtype.newbyteorder('=')),
        )
    except Exception as error:  # libraries raise many kinds of errors for broken files
        return Description(path, problem=DecodingError(path, error).reason)


def size_of(record: Mapping) -> tuple[int, int]:
    """Returns the upright (width, height) of an image, by its header.

    Raises:
        DecodingError: if it cannot be read.
    """
    found = describe(record)
    if found.problem:
        raise DecodingError(found.path, found.problem)
    return found.size


class Survey(NamedTuple):
    """The description of many files: counts by kind and by problem, and the sizes of readable
    files."""

    kinds: Counter
    problems: dict[str, list[str]]
    sizes: np.ndarray  # (N, 2)
    channels: Counter  # numbers of channels without alpha
    dtypes: Counter

    @property
    def unreadable(self) -> int:
        return sum(map(len, self.problems.values()))

    def size_text(self) -> str:
        """Describes the middle size and the extremes, by area."""
        if not len(self.sizes):
            return 'none can be read'
        by_area = self.sizes[np.argsort(self.sizes.prod(1), kind='stable')]
        smallest, middle, largest = (
            '{} x {}'.format(*by_area[i]) for i in (0, len(by_area) // 2, -1)
        )
        if smallest == largest:
            return f'{smallest}, all of them'
        return f'{middle} in the middle, from {smallest} to {largest}'

    def kind_text(self) -> str:
        """Lists the kinds by how many files there are of each."""
        return ', '.join(f'{n} {kind}' for kind, n in self.kinds.most_common())


def survey(descriptions: Sequence[Description]) -> Survey:
    """Counts files by kind and by problem."""
    problems: dict[str, list[str]] = defaultdict(list)
    good = [d for d in descriptions if not d.problem]
    for d in descriptions:
        if d.problem:
            problems[d.problem].append(d.path)
    return Survey(
        Counter(d.kind for d in good),
        dict(problems),
        np.array([d.size for d in good], dtype=np.int64).reshape(-1, 2),
        Counter(d.channels - d.alpha for d in good),
        Counter(d.dtype for d in good),
    )


def duplicates(records: Sequence[Mapping]) -> list[list[str]]:
    """Finds groups of images with the same bytes, each in the order of the records.

    Only files of equal length are read, but all images in shards.
    """
    by_length: dict[Optional[int], list[Mapping]] = defaultdict(list)
    for record in records:
        length = None if 'stored' in record else _length(record['img_path'])
        if length != 0:
            by_length[length].append(record)
    groups = []
    for same in by_length.values():
        by_hash: dict[bytes, list[str]] = defaultdict(list)
        for record in same if len(same) > 1 else ():
            digest = _digest(record)
            if digest is not None:
                by_hash[digest].append(record['img_path'])
        groups += [group for group in by_hash.values() if len(group) > 1]
    return groups


def _length(path: str) -> int:
    try:
        return os.stat(path).st_size if os.path.isfile(path) else 0
    except OSError:
        return 0


def _digest(record: Mapping) -> Optional[bytes]:
    digest = blake2b(digest_size=16)
    try:
        source, _ = image_source(record)
        if isinstance(source, bytes):
            digest.update(source)
            return digest.digest() if source else None
        with open(source, 'rb') as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except (OSError, DecodingError):
        return None
    return digest.digest()
