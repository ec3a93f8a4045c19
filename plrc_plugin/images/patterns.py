"""Selects names by patterns of the shell."""

import re
from collections.abc import Sequence
from fnmatch import translate
from typing import Union

Patterns = Union[str, Sequence[str], None]


class Selection:
    """Takes names that match a pattern of ``include``, if there are any, and none of ``exclude``.

    A pattern with a slash is matched with the whole path below the root, any other with the file's
    name. ``*`` matches slashes too.
    """

    def __init__(self, include: Patterns = None, exclude: Patterns = None):
        self.include, self.exclude = _several(include), _several(exclude)
        self._wanted = [_compiled(pattern) for pattern in self.include]
        self._unwanted = [_compiled(pattern) for pattern in self.exclude]

    def __bool__(self) -> bool:
        return bool(self.include or self.exclude)

    def __str__(self) -> str:
        return f'include={self.include}, exclude={self.exclude}'

    def takes(self, path: str) -> bool:
        """Whether a path relative to the root, with slashes, is taken."""
        name = path.rpartition('/')[2]
        if self._wanted and not _matches(self._wanted, path, name):
            return False
        return not (self._unwanted and _matches(self._unwanted, path, name))


def _several(patterns: Patterns) -> list[str]:
    return [patterns] if isinstance(patterns, str) else list(patterns or ())


def _compiled(pattern: str) -> tuple[bool, re.Pattern]:
    return '/' in pattern, re.compile(translate(pattern))


def _matches(patterns: list, path: str, name: str) -> bool:
    return any(regex.match(path if whole else name) for whole, regex in patterns)
