"""A pickle machine that can build data and can call nothing.

Before torch 2.6, ``torch.load(weights_only=True)`` refuses what mmengine writes, and it has changed
with every release since. This reader does not use torch's, and gives the same on every version.

- A name in a file is never imported. It is looked up in :data:`BUILDERS`, which lists everything
  that a file can make: tensors, arrays of numbers, plain containers and mmengine's scalars.
- Every other object of the file becomes a :class:`Nothing`, and its name is reported.
- A file cannot set an attribute, fill anything but a plain container, or have more memory reserved
  than the file is long.
"""

import os
import pickle
import re
import sys
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from io import BytesIO
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO, ClassVar, Optional

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from torch import Tensor

# The first two pickles of a file in the format before torch 1.6.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_TOO_LARGE = 'it asks for more memory than the file is long'

_STORAGES = {
    'DoubleStorage': torch.float64,
    'FloatStorage': torch.float32,
    'HalfStorage': torch.float16,
    'BFloat16Storage': torch.bfloat16,
    'LongStorage': torch.int64,
    'IntStorage': torch.int32,
    'ShortStorage': torch.int16,
    'CharStorage': torch.int8,
    'ByteStorage': torch.uint8,
    'BoolStorage': torch.bool,
    'ComplexDoubleStorage': torch.complex128,
    'ComplexFloatStorage': torch.complex64,
    'UntypedStorage': torch.uint8,  # the type is given with the tensor
}


class RefusedError(pickle.UnpicklingError):
    """A file asks for something that no checkpoint needs."""


class QuantisedError(RefusedError):
    """Its tensors are integers with scales."""


@dataclass(frozen=True)
class Name:
    """A name of a class or function in a file. It is kept as a name; nothing is imported."""

    text: str


class Nothing:
    """Stands in place of an object that is no data."""


@dataclass(frozen=True)
class Storage:
    """The numbers behind one or more tensors: their bytes (None if they are not read), type and
    count."""

    numbers: Optional[Tensor]
    dtype: torch.dtype
    size: int


def unpickle(path: str, read_numbers: bool = True) -> tuple[Any, list[str]]:
    """Builds the data of a checkpoint: torch's zip format, the one before torch 1.6, or a pickle.

    Args:
        path: the file.
        read_numbers: False makes tensors on the meta device, without reading their numbers.

    Returns:
        What the file holds, with plain tensors on the CPU that need no gradient; and one line for
        each object in it that was not built.

    Raises:
        RefusedError: if the file asks for something that no checkpoint needs.
        Exception: of any type, if the file is damaged.
    """
    if is_archive(path):
        with open_archive(path) as archive:
            return _read_archive(archive, read_numbers)
    with open(path, 'rb') as file:
        return _read_stream(file, os.path.getsize(path))


def is_archive(path: str) -> bool:
    """Whether the file starts like one in torch's zip format."""
    with open(path, 'rb') as file:
        return file.read(4) == b'PK\x03\x04'


def open_archive(path: str) -> zipfile.ZipFile:
    """Opens torch's zip format, whose records are stored as they are.

    Raises:
        RefusedError: for an archive that would grow when it is read, or that holds a program.
        BadZipFile: if the archive is cut off.
    """
    archive = zipfile.ZipFile(path)
    records = archive.infolist()
    problem = None
    if any(record.filename.endswith('/constants.pkl') for record in records):
        problem = 'it is a TorchScript program, not a checkpoint'
    elif any(record.compress_type != zipfile.ZIP_STORED for record in records) or sum(
        record.file_size for record in records
    ) > os.path.getsize(path):
        problem = _TOO_LARGE
    if problem is not None:
        archive.close()
        raise RefusedError(problem)
    return archive


def _read_archive(archive: zipfile.ZipFile, read_numbers: bool) -> tuple[Any, list[str]]:
    names = set(archive.namelist())
    roots = [name[: -len('data.pkl')] for name in names if name.endswith('/data.pkl')]
    if len(roots) != 1:
        raise RefusedError('it is an archive without the one record data.pkl of torch.save')
    root = roots[0]
    if f'{root}byteorder' in names:
        order = archive.read(f'{root}byteorder').decode()
        if order != sys.byteorder:
            raise RefusedError(f'its numbers have the byte order {order!r}')

    def storage(key: str, dtype: torch.dtype, size: int) -> Storage:
        record = archive.getinfo(f'{root}data/{key}')
        if record.file_size < size * dtype.itemsize:
            raise RefusedError(f'its record {record.filename} is too short')
        if not read_numbers:
            return Storage(None, dtype, size)
        with archive.open(record) as source:
            return Storage(_filled(_bytes(record.file_size), source), dtype, size)

    machine = _Machine(BytesIO(archive.read(f'{root}data.pkl')), storage)
    return machine.load(), machine.unbuilt


def _read_stream(file: BinaryIO, length: int) -> tuple[Any, list[str]]:
    first = _Machine(file)
    found = first.load()
    if found != _LEGACY_MAGIC:
        return found, first.unbuilt
    if _Machine(file).load() != _LEGACY_PROTOCOL:
        raise RefusedError('it is of an unknown version of the format before torch 1.6')
    if not _Machine(file).load()['little_endian']:
        raise RefusedError("its numbers have the byte order 'big'")
    left = length

    def storage(key: str, dtype: torch.dtype, size: int) -> Storage:
        nonlocal left
        left -= size * dtype.itemsize
        if left < 0:
            raise RefusedError(_TOO_LARGE)
        return Storage(_bytes(size * dtype.itemsize), dtype, size)

    machine = _Machine(file, storage)
    found = machine.load()
    keys = _Machine(file).load()
    if set(keys) != set(machine.storages):
        raise RefusedError('it asks for numbers that it does not hold')
    for key in keys:
        file.read(8)  # how many numbers follow; the storage has told it already
        _filled(machine.storages[key].numbers, file)
    return found, machine.unbuilt


def _bytes(length: int) -> Tensor:
    return torch.empty(length, dtype=torch.uint8)


def _filled(numbers: Tensor, source: BinaryIO) -> Tensor:
    view = memoryview(numbers.numpy())
    while view:
        got = source.readinto(view)
        if not got:
            raise EOFError('it is cut off')
        view = view[got:]
    return numbers


class _Machine(pickle._Unpickler):
    """The pickle machine of the standard library. Every step that could import, call, or set an
    attribute is replaced.

    It is the machine that is written in Python. The one in C lets no step be replaced, and it
    reserves memory for any index that a file names.

    Args:
        file: an open file, at the start of a pickle.
        storage: gives the numbers of a storage by key, type and count. None if there are none.
    """

    dispatch: ClassVar[dict] = dict(pickle._Unpickler.dispatch)
    for _code in (pickle.EXT1, pickle.EXT2, pickle.EXT4):  # other libraries register functions here
        del dispatch[_code[0]]

    def __init__(self, file: BinaryIO, storage: Optional[Callable[..., Storage]] = None):
        super().__init__(file, encoding='latin1')  # NumPy wrote arrays so under Python 2
        self._storage = storage
        self.storages: dict[str, Storage] = {}
        self.unbuilt: list[str] = []

    def leave_out(self, what: str) -> Nothing:
        """Notes that ``what`` is not built."""
        if what not in self.unbuilt:
            self.unbuilt.append(what)
        return Nothing()

    def make(self, name: Any, arguments: Any) -> Any:
        """Returns what stands in place of a call of ``name`` in the file."""
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise RefusedError('it calls something that is not a name')
        build = BUILDERS.get(name.text)
        return self.leave_out(name.text) if build is None else build(self, *arguments)

    def find_class(self, module: str, name: str) -> Any:
        found = Name(f'{_PYTHON_2.get(module, module)}.{name}')
        if found.text in BUILDERS or _storage_dtype(found) is not None:
            return found
        if module == 'torch' and type(getattr(torch, name, None)) is torch.dtype:
            return getattr(torch, name)
        self.leave_out(found.text)
        return found

    def persistent_load(self, saved: Any) -> Any:
        if self._storage is None or not isinstance(saved, tuple):
            raise RefusedError('it asks for an object outside the file')
        if saved[0] == 'module':  # a class with its source, from a model that was saved whole
            return saved[1]
        kind, storage, key, _, size, *view = saved
        if 'QInt' in str(storage) or 'QUInt' in str(storage):
            raise QuantisedError('its tensors are quantised: save them as floating-point numbers')
        dtype = _storage_dtype(storage)
        if kind != 'storage' or dtype is None or not isinstance(key, str) or any(view):
            raise RefusedError(f'it asks for a storage of an unknown kind, {saved!r:.200}')
        _check_counts((size,))
        if key not in self.storages:
            self.storages[key] = self._storage(key, dtype, size)
        elif (self.storages[key].dtype, self.storages[key].size) != (dtype, size):
            raise RefusedError(f'it gives its storage {key} two sizes')
        return self.storages[key]

    def _instantiate(self, name: Any, arguments: Any) -> None:
        self.append(self.make(name, tuple(arguments)))

    def _call(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self.make(self.stack[-1], arguments)

    def _call_with_keywords(self) -> None:
        self.stack.pop()  # only objects of other classes have attributes
        self._call()

    def _fill(self, items: list) -> None:
        container = self.stack[-1]
        if isinstance(container, list):
            container.extend(items)
        elif isinstance(container, set):
            container.update(items)
        elif isinstance(container, dict):
            container.update(zip(items[::2], items[1::2]))
        elif not isinstance(container, Nothing):
            raise RefusedError(f'it puts something into a {type(container).__name__}')

    def _fill_with_many(self) -> None:
        self._fill(self.pop_mark())

    def _append(self) -> None:
        self._fill([self.stack.pop()])

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def _build(self) -> None:
        state = self.stack.pop()
        owner = self.stack[-1]
        if isinstance(owner, OrderedDict):  # a state dict carries the versions of its layers
            if isinstance(state, dict) and isinstance(state.get('_metadata'), dict):
                owner._metadata = state['_metadata']
        elif isinstance(owner, np.ndarray):
            self.stack[-1] = _set_array(owner, *state)
        elif isinstance(owner, np.dtype):  # all but the byte order is in its code
            if state[1] == '>':
                raise RefusedError("it asks for an array of the byte order '>'")
        elif isinstance(owner, HistoryBuffer):
            _set_history(owner, state)
        elif not isinstance(owner, Nothing):
            raise RefusedError(f'it sets attributes of a {type(owner).__name__}')

    dispatch.update(
        {
            pickle.REDUCE[0]: _call,
            pickle.NEWOBJ[0]: _call,
            pickle.NEWOBJ_EX[0]: _call_with_keywords,
            pickle.APPEND[0]: _append,
            pickle.APPENDS[0]: _fill_with_many,
            pickle.SETITEM[0]: _set_item,
            pickle.SETITEMS[0]: _fill_with_many,
            pickle.ADDITEMS[0]: _fill_with_many,
            pickle.BUILD[0]: _build,
        }
    )


def _storage_dtype(name: Any) -> Optional[torch.dtype]:
    found = re.fullmatch(r'torch\.(?:(?:cuda|storage)\.)?(\w+)', getattr(name, 'text', ''))
    return _STORAGES.get(found[1]) if found else None


def _check_counts(counts: Any) -> None:
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        raise RefusedError(f'it asks for sizes that are no counts, {counts!r:.200}')


def _tensor(machine, storage, offset, size, stride, *_) -> Tensor:
    return _typed_tensor(machine, storage, offset, size, stride, None, None, storage.dtype)


def _typed_tensor(machine, storage, offset, size, stride, _grad, _hooks, dtype, *_) -> Tensor:
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
        raise RefusedError(f'it asks for a tensor of {dtype}, which this torch does not have')
    _check_counts((offset, *size, *stride))
    last = offset + sum((count - 1) * step for count, step in zip(size, stride))
    if len(size) != len(stride) or (
        prod(size) and (last + 1) * dtype.itemsize > storage.size * storage.dtype.itemsize
    ):
        raise RefusedError(f'it asks for a tensor of shape {tuple(size)} beyond its storage')
    if storage.numbers is None:
        return torch.empty_strided(size, stride, dtype=dtype, device='meta')
    numbers = storage.numbers.untyped_storage()
    return torch.empty(0, dtype=dtype).set_(numbers, offset, tuple(size), tuple(stride))


def _tensor_of_array(machine, array, dtype, *_) -> Tensor:
    return torch.from_numpy(array).to(dtype)


def _same(machine, value, *_) -> Any:
    return value


def _array(machine, *_) -> np.ndarray:
    return np.empty(0)


def _set_array(array: np.ndarray, _version, shape, dtype, by_columns, data) -> Any:
    if isinstance(dtype, Nothing):
        return dtype
    data = _as_bytes(data)
    _check_counts(shape)
    if not isinstance(dtype, np.dtype) or len(data) != prod(shape) * dtype.itemsize:
        raise RefusedError(f'it asks for an array of shape {tuple(shape)} beyond its data')
    array.__setstate__((1, tuple(shape), dtype, bool(by_columns), data))
    return array


def _array_of_buffer(machine, data, dtype, shape, order) -> Any:
    if isinstance(dtype, Nothing):
        return dtype
    return _set_array(np.empty(0), 1, shape, dtype, order == 'F', bytes(data))


def _dtype(machine, code, *_) -> Any:
    if not re.fullmatch(r'[biufc]\d{1,2}|[SU]\d{1,6}', str(code)):  # an array of objects: pointers
        return machine.leave_out(f'an array of {code!r}')
    return np.dtype(code)


def _scalar(machine, dtype, data=b'') -> Any:
    return np.frombuffer(_as_bytes(data), dtype)[0].item() if isinstance(dtype, np.dtype) else dtype


def _as_bytes(data: Any) -> bytes:
    """Returns the bytes that Python 2 wrote as text."""
    return data.encode('latin1') if isinstance(data, str) else data


def _plain(kind: type) -> Callable:
    """What makes a value of a plain type: a time or a path. The values are no data where their
    arguments are none, as those of a foreign time zone."""

    def build(machine, *arguments) -> Any:
        try:
            return kind(*arguments)
        except (TypeError, ValueError):
            return machine.leave_out(f'a {kind.__name__} of other objects')

    return build


def _encode(machine, text, encoding='latin1') -> bytes:
    if encoding not in ('latin1', 'latin-1'):
        raise RefusedError(f'it asks for the encoding {encoding!r:.50}')
    return text.encode('latin1')


def _attribute(machine, owner, name) -> Any:
    """Stands for ``getattr``, for the few attributes in :data:`ATTRIBUTES`."""
    found = ATTRIBUTES.get(getattr(owner, 'text', ''), {}).get(name)
    return machine.leave_out(f'the attribute {name!r:.50}') if found is None else found


def _set_history(history: HistoryBuffer, state: dict) -> None:
    values, counts = state['_log_history'], state['_count_history']
    HistoryBuffer.__init__(history, values, counts, state['max_length'])


_PYTHON_2 = {'__builtin__': 'builtins', 'copy_reg': 'copyreg'}
_HISTORY = 'mmengine.logging.history_buffer.HistoryBuffer'
_ONE_CYCLE = 'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler'

# Attributes that mmengine's files read from its classes: the four statistics of a history, which
# our own has too, and the curve of the one-cycle schedule.
ATTRIBUTES: dict[str, dict[str, Any]] = {
    _HISTORY: {name: Name(f'{_HISTORY}.{name}') for name in ('min', 'max', 'current', 'mean')},
    _ONE_CYCLE: {
        '_annealing_cos': OneCycleParamScheduler._annealing_cos,
        '_annealing_linear': OneCycleParamScheduler._annealing_linear,
    },
}

# What stands in place of a call of each name, as a function of the machine and the arguments. None:
# the name may occur but must not be called.
BUILDERS: dict[str, Optional[Callable]] = {
    'torch._utils._rebuild_tensor': _tensor,
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_tensor_v3': _typed_tensor,
    'torch._utils._rebuild_parameter': _same,
    'torch._utils._rebuild_parameter_with_state': _same,
    'torch._utils._rebuild_device_tensor_from_numpy': _tensor_of_array,
    'torch._tensor._rebuild_from_type_v2': lambda machine, name, _, arguments, *__: machine.make(
        name, arguments
    ),
    'torch.Tensor': None,
    'torch.nn.parameter.Parameter': None,
    'torch.Size': lambda machine, sizes=(): torch.Size(sizes),
    'torch.device': lambda machine, *where: torch.device(*where),
    'collections.OrderedDict': lambda machine, *pairs: OrderedDict(*pairs),
    'collections.defaultdict': lambda machine, *_: {},
    'collections.Counter': lambda machine, counts=(): Counter(dict(counts)),
    'builtins.set': lambda machine, items=(): set(items),
    'builtins.frozenset': lambda machine, items=(): frozenset(items),
    'builtins.complex': lambda machine, *parts: complex(*parts),
    'builtins.bytearray': lambda machine, data=b'', *_: bytearray(_as_bytes(data)),
    'builtins.bytes': lambda machine, *_: b'',  # protocol 0 writes other values as text
    'builtins.list': None,  # the factory of a defaultdict
    'builtins.dict': None,
    'builtins.int': None,
    'builtins.getattr': _attribute,
    '_codecs.encode': _encode,
    **{f'datetime.{kind.__name__}': _plain(kind) for kind in (date, datetime, timedelta, timezone)},
    **{  # a path is text with methods; making one looks at no disk
        f'pathlib.{local}{name}': _plain(kind)
        for local in ('', '_local.')  # as Python 3.13 writes
        for name, kind in {
            'PosixPath': Path,
            'PurePosixPath': PurePosixPath,
            'WindowsPath': PureWindowsPath,
            'PureWindowsPath': PureWindowsPath,
        }.items()
    },
    'mmengine.config.config.ConfigDict': lambda machine, items=(): dict(items),
    'numpy.ndarray': None,
    'numpy.dtype': _dtype,
    _HISTORY: lambda machine, *_: HistoryBuffer(),
    _ONE_CYCLE: None,
    **{
        f'numpy.{core}.{name}': build
        for core in ('core', '_core')
        for name, build in {
            'multiarray._reconstruct': _array,
            'multiarray.scalar': _scalar,
            'numeric._frombuffer': _array_of_buffer,
        }.items()
    },
}
