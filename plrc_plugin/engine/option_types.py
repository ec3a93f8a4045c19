"""Values of a wrong type, such as ``'no'`` where True or False is meant, by the annotations."""

import inspect
import math
import os
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Optional, Union

from plrc_plugin.errors import SettingsError

AUTO = 'auto'  # resolved before the part is built
_WORDS = {
    bool: 'True or False',
    int: 'an integer',
    float: 'a number',
    str: 'text',
    dict: 'a dict',
    Mapping: 'a dict',
    Sequence: 'a list',
    list: 'a list',
    tuple: 'a list',
}


def check_types(part: Mapping[str, Any], where: str, builder: Callable) -> None:
    """Raises SettingsError for the first option of a part of this package whose value has another
    type than its annotation says. Annotations that are not understood let everything through."""
    for function in _annotated(builder):
        try:
            hints = typing.get_type_hints(function)
        except (NameError, TypeError):  # names that are there for type checkers only
            continue
        defaults = inspect.signature(function).parameters
        for option, hint in hints.items():
            if option not in part or option in ('return', 'self') or option not in defaults:
                continue
            value = part[option]
            if isinstance(value, str) and value == AUTO:
                continue
            if value is not None or defaults[option].default is not None:
                _check_value(value, hint, f'{where}.{option}')


def _annotated(builder: Callable) -> Iterator[Callable]:
    if not inspect.isclass(builder):
        if getattr(builder, '__module__', '').startswith('plrc_plugin.'):
            yield builder
        return
    for cls in builder.__mro__:
        if cls.__module__.startswith('plrc_plugin.') and '__init__' in vars(cls):
            yield cls.__init__


def _check_value(value: Any, hint: Any, where: str) -> None:
    if not fits(value, hint):
        raise SettingsError(f'{where} must be {describe(hint)}, got {value!r}')


def fits(value: Any, hint: Any) -> bool:
    """Whether a value may stand where an annotation is."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is Union:
        return any(fits(value, one) for one in inside)
    if hint is type(None):
        return value is None
    kind = origin or hint
    if kind is bool:
        return isinstance(value, bool) or (isinstance(value, Integral) and value in (0, 1))
    if kind is int:
        whole = isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
        return whole and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(value)
    if kind is str:
        return isinstance(value, (str, os.PathLike))
    if kind in (dict, Mapping):
        return isinstance(value, Mapping)
    if kind in (Sequence, list, tuple):
        if isinstance(value, str) or not isinstance(value, (list, tuple)):
            return kind is Sequence and not isinstance(value, (str, Mapping, Real, type(None)))
        one = inside[0] if inside and kind is not tuple else Any
        return all(fits(entry, one) for entry in value)
    return True


def describe(hint: Any) -> str:
    """An annotation in words."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is Union:
        words = [describe(one) for one in inside if one is not type(None)]
        none: Optional[str] = 'None' if type(None) in inside else None
        return ' or '.join(dict.fromkeys([*words, *([none] if none else [])]))
    text = _WORDS.get(origin or hint, str(hint))
    if origin is Sequence and inside and typing.get_origin(inside[0]) is None:
        named = {int: 'integers', float: 'numbers', str: 'texts', dict: 'dicts'}.get(inside[0])
        return f'a list of {named}' if named else text
    return text
