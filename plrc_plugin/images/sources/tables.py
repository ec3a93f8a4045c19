"""Images in the rows of tables: Parquet files, and Arrow files of Hugging Face's ``datasets``."""

import os
import struct
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any, Optional

from plrc_plugin.errors import SettingsError
from plrc_plugin.images.missing import needs
from plrc_plugin.images.sources.columns import Columns, find_columns
from plrc_plugin.images.sources.files import File, is_address
from plrc_plugin.images.sources.kind import ShardError, ShardKind

_PLACE = struct.Struct('<II')  # part of the file, and row in that part
_KEPT_BYTES = 256 * 2**20  # bytes of parts that a process keeps in memory
_KEPT_FILES = 64


class TableShards(ShardKind):
    """Tables with a column of images.

    Args:
        image_column: its name; None to find it.
        name_column: the column of names; None to take the paths in the table.
    """

    of_rows = True

    def __init__(self, image_column: Optional[str] = None, name_column: Optional[str] = None):
        self.image_column, self.name_column = image_column, name_column
        needs('pyarrow', 'parquet', f'a table such as *{self.suffixes[0]}')
        self._forget()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._opened: OrderedDict[str, tuple[Any, Columns]] = OrderedDict()
        self._parts: OrderedDict[tuple[str, int], Any] = OrderedDict()

    def __getstate__(self) -> dict:
        dropped = ('_process', '_opened', '_parts')
        return {name: value for name, value in vars(self).items() if name not in dropped}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._forget()

    def settings(self) -> str:
        return f'{super().settings()} {self.image_column!r} {self.name_column!r}'

    @abstractmethod
    def open(self, files: Any, file: File) -> Any:
        """Opens a table. The object has ``schema_arrow``."""

    @abstractmethod
    def parts(self, table: Any, name: Optional[str]) -> Iterator[tuple[int, Optional[Iterable]]]:
        """Yields (number of rows, their names or None) for each part of a table."""

    @abstractmethod
    def part(self, table: Any, number: int, column: str) -> Any:
        """Reads a part of a column, a pyarrow array."""

    def members(self, files: Any, file: File) -> Iterator[tuple[Optional[str], bytes]]:
        table, columns = self._open(files, file)
        try:
            for number, (rows, names) in enumerate(self.parts(table, columns.name)):
                for row, name in enumerate(names if names is not None else [None] * rows):
                    yield name, _PLACE.pack(number, row)
        except SettingsError:
            raise
        except Exception as error:  # pyarrow raises many kinds of errors for broken files
            raise ShardError(file.path, error) from error

    def read(self, files: Any, file: File, place: bytes) -> bytes:
        number, row = _PLACE.unpack(place)
        files.check(file)
        if self._process != os.getpid():  # handles of another process must not be used
            self._forget()
        table, columns = self._open(files, file)
        value = self._part(file, number, table, columns)[row].as_py()
        path = value if columns.paths else None
        if columns.fields and value is not None:
            value, path = value['bytes'], value['path'] if value['bytes'] is None else None
        if path is not None:
            return _file_beside(file.path, path, files)
        if value is None:
            raise ValueError('its row holds no image')
        return value

    def _open(self, files: Any, file: File) -> tuple[Any, Columns]:
        if file.path not in self._opened:
            try:
                table = self.open(files, file)
                columns = find_columns(
                    table.schema_arrow, self.image_column, self.name_column, file.path
                )
            except SettingsError:
                raise
            except Exception as error:
                raise ShardError(file.path, error) from error
            self._opened[file.path] = table, columns
            if len(self._opened) > _KEPT_FILES:
                self._opened.popitem(last=False)
        return self._opened[file.path]

    def _part(self, file: File, number: int, table: Any, columns: Columns) -> Any:
        key = file.path, number
        if key not in self._parts:
            self._parts[key] = self.part(table, number, columns.image)
            while len(self._parts) > 1 and _size(self._parts) > _KEPT_BYTES:
                self._parts.popitem(last=False)
        self._parts.move_to_end(key)
        return self._parts[key]


class ParquetShards(TableShards):
    """Parquet files. A part is a row group, which is read whole even for one image."""

    suffixes = ('.parquet', '.pq')

    def open(self, files: Any, file: File) -> Any:
        from pyarrow import parquet

        if files.remote:
            return parquet.ParquetFile(files.open(file, 0), pre_buffer=False)
        return parquet.ParquetFile(file.path, memory_map=True, pre_buffer=False)

    def parts(self, table: Any, name: Optional[str]) -> Iterator[tuple[int, Optional[Iterable]]]:
        for number in range(table.num_row_groups):
            names = None
            if name is not None:
                found = table.read_row_group(number, columns=[name], use_threads=False)
                names = _flat(found, name).to_pylist()
            yield table.metadata.row_group(number).num_rows, names

    def part(self, table: Any, number: int, column: str) -> Any:
        found = table.read_row_group(number, columns=[column], use_threads=False)
        return found.column(column)


class ArrowShards(TableShards):
    """Arrow files as ``datasets`` saves and caches them. A part is a record batch, which is mapped
    into memory."""

    suffixes = ('.arrow',)

    def open(self, files: Any, file: File) -> Any:
        import pyarrow as pa

        if files.remote:
            reason = 'Arrow files are mapped from a disk'
            raise ShardError(file.path, reason, 'copy it, or write Parquet')
        mapped = pa.memory_map(file.path)
        try:
            reader = pa.ipc.open_file(mapped)
            batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
            return _Batches(reader.schema, batches)
        except pa.ArrowInvalid:
            mapped.seek(0)
            reader = pa.ipc.open_stream(mapped)
            return _Batches(reader.schema, list(reader))

    def parts(self, table: Any, name: Optional[str]) -> Iterator[tuple[int, Optional[Iterable]]]:
        for batch in table.batches:
            yield batch.num_rows, None if name is None else _flat(batch, name).to_pylist()

    def part(self, table: Any, number: int, column: str) -> Any:
        return table.batches[number].column(column)


class _Batches:
    """The record batches of an Arrow file."""

    def __init__(self, schema: Any, batches: list):
        self.schema_arrow, self.batches = schema, batches


def _flat(table: Any, name: str) -> Any:
    """Returns a column, or a field of one."""
    import pyarrow.compute as compute

    if name in table.schema.names:
        return table.column(name)
    column, _, field = name.rpartition('.')
    return compute.struct_field(table.column(column), field)


def _size(parts: OrderedDict) -> int:
    return sum(part.nbytes for part in parts.values())


def _file_beside(table: str, path: str, files: Any) -> bytes:
    """Returns the file that a row names, relative to the folder of its table."""
    if is_address(path):
        if not files.remote or not path.startswith(f'{files.scheme}://'):
            raise SettingsError(
                f'{table}: its rows name images at addresses, such as {path}, and only what '
                'data_root names is fetched: fetch them, and write their bytes or paths'
            )
        return files.read_whole(path)
    folder = table.rpartition('/')[0] if files.remote else os.path.dirname(table)
    if files.remote:
        return files.read_whole(f'{folder}/{path}')
    return files.read_whole(os.path.join(folder, path))
