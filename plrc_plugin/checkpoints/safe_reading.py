"""Reading checkpoints to resume from, without running what is in them."""

import os
import os.path as osp
import zipfile
from collections import OrderedDict
from contextlib import nullcontext
from pickle import UnpicklingError
from typing import Optional

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from plrc_plugin.errors import SettingsError


class _History:
    """Stands for mmengine's ``HistoryBuffer``, whose own ``__setstate__`` changes its class."""

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)


def _statistic(owner, name: str) -> str:
    """Stands for ``getattr``, of which a pickled ``HistoryBuffer`` needs its four statistics."""
    if owner is not _History or name not in ('min', 'max', 'current', 'mean'):
        raise UnpicklingError(f'it asks for the attribute {name!r}')
    return name


class _Type:
    """Stands for ``numpy.dtype``, numbers alone: an array of objects is one of pointers."""

    def __init__(self, code, *_) -> None:
        if code not in ('f8', 'f4', 'i8'):
            raise UnpicklingError(f'it asks for an array of {code!r}')
        self.dtype = np.dtype(f'<{code}')

    def __setstate__(self, state) -> None:  # all of it is in the code already
        if state[1] != '<':
            raise UnpicklingError(f'it asks for an array of byte order {state[1]!r}')


class _Array:
    """Stands for ``numpy.ndarray``."""

    def __init__(self, *_) -> None:
        self.values = np.empty(0)

    def __setstate__(self, state) -> None:
        _, shape, kind, _, data = state
        self.values = np.frombuffer(data, kind.dtype).reshape(shape).copy()


def _array(*_) -> _Array:
    return _Array()


def _scalar(kind: _Type, data: bytes):
    return np.frombuffer(data, kind.dtype)[0].item()


# What mmengine's own CheckpointHook writes beside tensors, numbers and text. Nothing of it is
# looked up by a name that the file chooses.
_SAFE = [
    (_History, 'mmengine.logging.history_buffer.HistoryBuffer'),
    (_statistic, 'builtins.getattr'),
    (_Array, 'numpy.ndarray'),
    (_Type, 'numpy.dtype'),
    *(
        (stand_in, f'numpy.{core}.multiarray.{name}')
        for core in ('core', '_core')
        for name, stand_in in dict(_reconstruct=_array, scalar=_scalar).items()
    ),
]
# torch 2.6 and later take stand-ins; before, files of our own are read without any.
_STAND_INS = hasattr(torch.serialization, 'get_unsafe_globals_in_checkpoint')


def read_checkpoint(path: str, map_location='cpu') -> dict:
    """A checkpoint whose scalars are ``HistoryBuffer`` again, without the config of its run.

    Raises:
        UnpicklingError: if it holds anything else than tensors, numbers, text and such scalars.
    """
    with torch.serialization.safe_globals(_SAFE) if _STAND_INS else nullcontext():
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    if map_location != 'meta':
        hub = checkpoint.get('message_hub', {})
        hub['log_scalars'] = OrderedDict(
            (name, _history(value)) for name, value in hub.get('log_scalars', {}).items()
        )
    checkpoint.get('meta', {}).pop('config', None)  # mmengine would execute this text
    return checkpoint


def plain_scalars(message_hub: dict) -> None:
    """Makes a message hub's state, in place, what can be read without building any object."""
    message_hub['log_scalars'] = OrderedDict(
        (
            name,
            dict(
                max_length=buffer.max_length,
                values=torch.as_tensor(buffer.data[0]),
                counts=torch.as_tensor(buffer.data[1]),
            ),
        )
        for name, buffer in message_hub['log_scalars'].items()
    )
    message_hub['runtime_info'] = OrderedDict(
        (name, value.item() if isinstance(value, np.generic) else value)
        for name, value in message_hub['runtime_info'].items()
    )


def _history(saved) -> HistoryBuffer:
    if isinstance(saved, _History):
        values, counts = saved._log_history.values, saved._count_history.values
        return HistoryBuffer(values, counts, saved.max_length)
    return HistoryBuffer(
        saved['values'].cpu().numpy(), saved['counts'].cpu().numpy(), saved['max_length']
    )


def damage_of(path: str) -> Optional[str]:
    """Why a checkpoint cannot be resumed from, in one line; None if it can.

    Every byte is read and compared with the checksums that torch keeps.
    """
    if not osp.exists(path):
        return 'it does not exist'
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            return f'its record {broken} is damaged'
        checkpoint = read_checkpoint(path, map_location='meta')
        missing = {'meta', 'state_dict', 'message_hub'} - set(checkpoint)
    except zipfile.BadZipFile:
        return 'it is cut off, or no checkpoint'
    except UnpicklingError:
        return (
            'it cannot be read: it holds more than tensors, numbers and text, and opening it '
            'could run any code'
        )
    except Exception as error:
        return f'it cannot be read ({" ".join(str(error).split())[:200]})'
    return f'it holds weights only ({", ".join(sorted(missing))} missing)' if missing else None


class _Nothing:
    """Stands for every object of a checkpoint that is not a tensor; never runs what it is given."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __setstate__(self, state) -> None:
        pass


def _foreign_types(path: str) -> list:
    """Names of what a checkpoint would have built besides tensors (torch >= 2.6, zip format)."""
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (AttributeError, ValueError):
        return []


def load_tensors(path: str) -> dict:
    """Open a checkpoint (.pth, .pth.tar, .safetensors) on the CPU, building tensors alone.

    Whatever else it holds, such as mmengine's message hub or training options, is left out.

    Raises:
        SettingsError: if there is no such file, or it is no checkpoint, or torch refuses it.
    """
    if not os.path.isfile(path):
        raise SettingsError(f'no checkpoint at {path}')
    if str(path).endswith('.safetensors'):
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise SettingsError(f'{path} is damaged or no checkpoint: {error}') from error
    try:
        foreign = [(_Nothing, name) for name in _foreign_types(path)]
        with torch.serialization.safe_globals(foreign) if foreign else nullcontext():
            checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except UnpicklingError as error:
        raise SettingsError(
            f'{path} holds more than tensors, and opening it could run any code, or is no '
            'checkpoint. Save its state dict alone where you trust it'
        ) from error
    except Exception as error:  # torch raises whatever the bytes lead it to
        raise SettingsError(f'{path} is damaged or no checkpoint: {error}') from error
    if not isinstance(checkpoint, dict):
        raise SettingsError(f'{path} holds a {type(checkpoint).__name__}, not a state dict')
    return checkpoint
