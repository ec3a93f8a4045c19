"""Finds the column of a table that holds the images, and the one with their names."""

import json
from typing import Any, NamedTuple, Optional

from plrc_plugin.images.file_list import NAMES
from plrc_plugin.images.sources.kind import ShardError

# Names of the column of images if several columns hold bytes, in the order in which they are tried.
_IMAGES = ('image', 'img', 'image_bytes', 'bytes', 'content', 'data', 'jpg', 'jpeg', 'png', 'webp')


class Columns(NamedTuple):
    """The columns of a table that are read.

    Attributes:
        image: the column of images.
        fields: whether it has the fields ``bytes`` and ``path``, as Hugging Face writes it.
        paths: whether it is text: paths of files.
        name: the column of names, with a dot if it is a field; None without names.
    """

    image: str
    fields: bool
    paths: bool
    name: Optional[str]


def find_columns(schema: Any, image: Optional[str], name: Optional[str], path: str) -> Columns:
    """Finds the columns in a pyarrow schema.

    Args:
        schema: the schema of the table.
        image, name: the columns that the user set; None to find them.
        path: the file of the table, for messages.

    Raises:
        ShardError: if there is no such column, or several may be it.
    """
    kinds = {field.name: _kind(field.type) for field in schema}
    for setting, column in (('image_column', image), ('name_column', name)):
        if column is not None and column not in kinds:
            raise ShardError(
                path, f'it has no column {column!r}, but {list(kinds)}', f'set {setting} to one'
            )
    column = image or _image_column(schema, kinds, path)
    if kinds[column] in (None, 'nothing'):
        raise ShardError(
            path,
            f'its column {column!r} is of type {schema.field(column).type}',
            'set image_column to one of bytes, of struct<bytes, path>, or of paths',
        )
    if name is None:
        if kinds[column] == 'fields':
            name = f'{column}.path'
        elif kinds[column] == 'paths':
            name = column
        else:
            text = {n for n, kind in kinds.items() if kind == 'paths' and n != column}
            name = next((n for n in NAMES if n in text), None)
    return Columns(column, kinds[column] == 'fields', kinds[column] == 'paths', name)


def _image_column(schema: Any, kinds: dict, path: str) -> str:
    stated = (schema.metadata or {}).get(b'huggingface')
    if stated is not None:
        features = json.loads(stated).get('info', {}).get('features') or {}
        of_images = [
            n for n, f in features.items() if isinstance(f, dict) and f.get('_type') == 'Image'
        ]
        if len(of_images) == 1 and of_images[0] in kinds:
            return of_images[0]
    holding = [n for n, kind in kinds.items() if kind in ('fields', 'bytes')]
    if not holding:
        holding = [n for n in NAMES if kinds.get(n) == 'paths'][:1]
    if len(holding) == 1:
        return holding[0]
    named = [n for n in _IMAGES if n in holding]
    if named:
        return named[0]
    what = f'several columns may hold the images: {holding}' if holding else 'no column of images'
    raise ShardError(path, f'it has {what}; its columns are {list(kinds)}', 'set image_column')


def _kind(type_: Any) -> Optional[str]:
    import pyarrow.types as types

    if types.is_struct(type_):
        fields = {type_.field(i).name: _kind(type_.field(i).type) for i in range(type_.num_fields)}
        return 'fields' if fields.keys() >= {'bytes', 'path'} and fields['bytes'] else None
    if types.is_string(type_) or types.is_large_string(type_):
        return 'paths'
    if types.is_null(type_):  # no row has a name
        return 'nothing'
    binary = types.is_binary(type_) or types.is_large_binary(type_)
    return 'bytes' if binary or types.is_fixed_size_binary(type_) else None
