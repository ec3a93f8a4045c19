"""Reads lists of images: text, CSV, JSON lines, and JSON of mmengine, COCO or LVIS."""

import csv
import json
import os
import re
from collections.abc import Iterator
from typing import Optional
from urllib.parse import urlsplit

from plrc_plugin.errors import SettingsError
from plrc_plugin.images.decoding import EXTENSIONS

# Columns and keys that name an image, in the order in which they are looked for.
NAMES = ('img_path', 'file_name', 'filename', 'path', 'file', 'filepath', 'image', 'img', 'name')
# A name, and after white space or a comma one label or several.
_LABELLED = re.compile(
    rf'(.*(?:{"|".join(map(re.escape, EXTENSIONS))}))[\s,]+\S.*', re.IGNORECASE | re.DOTALL
)


def listed_images(path: str, column: Optional[str] = None) -> list[str]:
    """Returns the names in a list of images, in its order.

    The extension tells the format: ``.csv`` or ``.tsv`` with a header; ``.jsonl`` with an object in
    each line; ``.json`` as mmengine (``data_list``) or COCO and LVIS (``images``) write it. Any
    other file is text with a name in each line, and labels may follow the name.

    Args:
        path: the list.
        column: column of a table, or key of an object, that names the image. Defaults to the first
            of ``NAMES`` that the list has.

    Raises:
        SettingsError: if the list cannot be read, names no image, or has a line without one.
    """
    kind = os.path.splitext(path)[1].lower()
    read = {'.csv': _table, '.tsv': _table, '.jsonl': _json_lines, '.json': _json}.get(kind, _text)
    try:
        names = list(read(path, column))
    except (OSError, ValueError, csv.Error, TypeError, AttributeError) as error:
        if isinstance(error, SettingsError):
            raise
        reason = ' '.join(str(error).split())
        raise SettingsError(
            f'ann_file={path!r} cannot be read as a list of images: {reason}'
        ) from error
    if not names:
        raise SettingsError(f'ann_file={path!r} names no image')
    return names


def _text(path: str, column: Optional[str]) -> Iterator[str]:
    if column is not None:
        raise SettingsError(
            f'ann_file={path!r} has lines and no columns: leave ann_column={column!r} out'
        )
    with open(path, 'rb') as file:
        for number, line in enumerate(file, 1):
            line = os.fsdecode(line.removeprefix(b'\xef\xbb\xbf').rstrip(b'\r\n'))
            if not line.strip():
                continue
            if line.lower().endswith(EXTENSIONS):
                yield line
            elif line.strip().lower().endswith(EXTENSIONS):
                yield line.strip()
            elif match := _LABELLED.fullmatch(line.strip()):
                yield match[1]
            else:
                raise SettingsError(
                    f'ann_file={path!r}: line {number}, {line[:80]!r}, names no image with one of '
                    f'the extensions {", ".join(EXTENSIONS)}: write names with their extension, '
                    f'one to a line; labels may follow each name'
                )


def _table(path: str, column: Optional[str]) -> Iterator[str]:
    with open(path, encoding=_encoding(path), errors='surrogateescape', newline='') as file:
        head = file.readline()
        file.seek(0)
        # Where a comma is the decimal point, a semicolon separates.
        separator = max(',;\t', key=head.count) if path.lower().endswith('.csv') else '\t'
        table = csv.DictReader(file, delimiter=separator)
        columns = {(name or '').strip().lower(): name for name in table.fieldnames or ()}
        wanted = NAMES if column is None else (column.strip().lower(),)
        found = next((columns[name] for name in wanted if name in columns), None)
        if found is None:
            raise SettingsError(
                f'ann_file={path!r} has the columns {list(table.fieldnames or ())}: set ann_column '
                f'to the one with the names of the images, or call it {NAMES[0]!r}'
            )
        for row in table:
            if not row[found]:
                raise SettingsError(f'ann_file={path!r}: line {table.line_num} names no image')
            yield row[found]


def _encoding(path: str) -> str:
    """UTF-8, or the UTF-16 of spreadsheets."""
    with open(path, 'rb') as file:
        return 'utf-16' if file.read(2) in (b'\xff\xfe', b'\xfe\xff') else 'utf-8-sig'


def _json_lines(path: str, column: Optional[str]) -> Iterator[str]:
    with open(path, encoding='utf-8-sig') as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    record = json.loads(line)
                except ValueError as error:
                    raise ValueError(f'line {number}: {error}') from error
                yield _name(record, column, f'{path!r}: line {number}')


def _json(path: str, column: Optional[str]) -> Iterator[str]:
    with open(path, encoding='utf-8-sig') as file:
        content = json.load(file)
    records = content
    if isinstance(content, dict):
        records = content.get('data_list', content.get('images'))
    if not isinstance(records, list):
        raise SettingsError(
            f"ann_file={path!r} has neither mmengine's 'data_list' nor COCO's 'images'"
        )
    for number, record in enumerate(records, 1):
        yield _name(record, column, f'{path!r}: image {number}')


def _name(record, column: Optional[str], place: str) -> str:
    if isinstance(record, str):
        return record
    for name in NAMES if column is None else (column,):
        if isinstance(record.get(name), str) and record[name]:
            return record[name]
    if column is not None:
        raise SettingsError(
            f'ann_file={place} has no text under ann_column={column!r}, but the keys {list(record)}'
        )
    if isinstance(record.get('coco_url'), str):  # LVIS: it ends with folder and name
        return '/'.join(urlsplit(record['coco_url']).path.split('/')[-2:])
    raise SettingsError(f'ann_file={place} names no image: give each an {NAMES[0]!r}')
