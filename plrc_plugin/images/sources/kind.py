"""The base of all kinds of shards."""

import posixpath
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Optional

from plrc_plugin.errors import SettingsError
from plrc_plugin.images.sources.files import File


class ShardError(SettingsError):
    """A shard cannot be used: it is broken, or of another kind than its name says."""

    def __init__(self, path: str, reason: object, remedy: str = 'copy or write it anew'):
        if isinstance(reason, BaseException):
            reason = f'{type(reason).__name__}: {reason}'
        super().__init__(f'{path} cannot be used: {" ".join(str(reason).split())}: {remedy}')


class ShardKind(ABC):
    """One of tar, zip, Parquet and Arrow.

    Attributes:
        suffixes: suffixes of its files.
        of_rows: whether its images are rows of a table. These may have no names, and need no
            extension.
    """

    suffixes: tuple[str, ...] = ()
    of_rows = False

    def settings(self) -> str:
        """Returns the settings that an index depends on beside the shards."""
        return type(self).__name__

    @abstractmethod
    def members(self, files: Any, file: File) -> Iterator[tuple[Optional[str], bytes]]:
        """Yields (name or None, place) of everything in a shard, in its order.

        Raises:
            ShardError: if it is broken.
        """

    @abstractmethod
    def read(self, files: Any, file: File, place: bytes) -> bytes:
        """Reads the content of a member.

        Raises:
            SettingsError: if the shard is gone or has changed.
            Exception: of any other kind if this member is damaged.
        """


def unpacked(name: str) -> str:
    """Where a member lies when it is unpacked: below the folder, whatever its name says."""
    parts = posixpath.normpath(name.replace('\0', '')).split('/')
    while parts and parts[0] in ('', '.', '..'):
        del parts[0]
    return '/'.join(parts)


def stem(path: str) -> str:
    """Returns the name of a shard without its extension."""
    return re.split(r'[/\\]', path)[-1].rpartition('.')[0]
