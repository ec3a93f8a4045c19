"""Reading checkpoints without running what is in them."""

import os
from collections import OrderedDict
from typing import Any, Optional

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from plrc_plugin.checkpoints.unpickling import (
    QuantisedError,
    RefusedError,
    is_archive,
    open_archive,
    unpickle,
)
from plrc_plugin.errors import SettingsError


def read_checkpoint(path: str, map_location: Any = 'cpu') -> dict:
    """Reads a checkpoint to resume from. Its scalars become ``HistoryBuffer`` again, and the config
    of its run is left out.

    Args:
        path: the file.
        map_location: 'meta' leaves the numbers of tensors unread. Any other value gives tensors on
            the CPU: the caller copies them to where they belong.

    Raises:
        RefusedError: if it holds anything but tensors, numbers, text and such scalars.
        Exception: of any type, if the file is damaged.
    """
    checkpoint, unbuilt = unpickle(path, read_numbers=str(map_location) != 'meta')
    if unbuilt:
        raise RefusedError(f'it asks for {", ".join(unbuilt)}')
    if not isinstance(checkpoint, dict):
        raise RefusedError(f'it holds a {type(checkpoint).__name__}')
    if map_location != 'meta':
        hub = checkpoint.get('message_hub', {})
        hub['log_scalars'] = OrderedDict(
            (name, _history(value)) for name, value in hub.get('log_scalars', {}).items()
        )
    checkpoint.get('meta', {}).pop('config', None)  # mmengine would execute this text
    return checkpoint


def plain_scalars(message_hub: dict) -> None:
    """Turns the state of a message hub, in place, into data that can be read without building any
    object."""
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
    if isinstance(saved, HistoryBuffer):
        return saved
    return HistoryBuffer(saved['values'].numpy(), saved['counts'].numpy(), saved['max_length'])


def damage_of(path: str) -> Optional[str]:
    """Says in one line why a checkpoint cannot be resumed from, or returns None if it can.

    Every byte is read and compared with the checksums that torch keeps.
    """
    if not os.path.exists(path):
        return 'it does not exist'
    try:
        if is_archive(path):
            with open_archive(path) as archive:
                broken = archive.testzip()
            if broken is not None:
                return f'its record {broken} is damaged'
        checkpoint = read_checkpoint(path, map_location='meta')
    except RefusedError as error:
        return (
            'it cannot be read: it holds more than tensors, numbers and text, and opening it '
            f'could run any code ({_line(error)})'
        )
    except OSError as error:
        return f'it cannot be read ({_line(error)})'
    except Exception:  # whatever the bytes lead to
        return 'it is cut off, or no checkpoint'
    missing = {'meta', 'state_dict', 'message_hub'} - set(checkpoint)
    return f'it holds weights only ({", ".join(sorted(missing))} missing)' if missing else None


def load_tensors(path: str) -> dict:
    """Opens a checkpoint (.pth, .pth.tar, .pkl, .safetensors) on the CPU, building nothing but
    data.

    Arrays of numbers, as detectron2 writes them, become tensors. Objects that are no data, such as
    training options, are left out.

    Raises:
        SettingsError: if there is no such file, or it is damaged or no checkpoint.
    """
    if not os.path.isfile(path):
        raise SettingsError(
            f'no checkpoint at {path}'
            + (': download it, and give the file' if '://' in str(path) else '')
        )
    if is_safetensors(path):
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise SettingsError(f'{path} is damaged or no checkpoint: {_line(error)}') from error
    try:
        checkpoint, unbuilt = unpickle(path)
    except QuantisedError as error:
        raise SettingsError(
            f'{path} is quantised: training needs the float32 weights that it was made from'
        ) from error
    except Exception as error:  # whatever the bytes lead to
        raise SettingsError(f'{path} is damaged or no checkpoint: {_line(error)}') from error
    if not isinstance(checkpoint, dict):
        what = (
            f'objects that only code can build ({", ".join(unbuilt[:3])}, ...)'
            if unbuilt
            else f'a {type(checkpoint).__name__}'
        )
        raise SettingsError(
            f'{path} holds {what}, not a state dict: save model.state_dict() where you trust it'
        )
    _arrays_become_tensors(checkpoint)
    return checkpoint


def is_safetensors(path: str) -> bool:
    """Whether a file is in the safetensors format, by its name or, under any name, by its start:
    the length of its JSON header, and the header."""
    if str(path).endswith('.safetensors'):
        return True
    with open(path, 'rb') as file:
        start = file.read(9)
    length = int.from_bytes(start[:8], 'little')
    return start[8:] == b'{' and length <= os.path.getsize(path) - 8


def _arrays_become_tensors(checkpoint: dict) -> None:
    waiting, seen = [checkpoint], set()
    while waiting:
        mapping = waiting.pop()
        seen.add(id(mapping))
        for key, value in mapping.items():
            if isinstance(value, np.ndarray) and value.dtype.kind in 'biufc':
                mapping[key] = torch.from_numpy(value)
            elif isinstance(value, dict) and id(value) not in seen:
                waiting.append(value)


def _line(error: Exception) -> str:
    if isinstance(error, (KeyError, IndexError)):  # of what is no pickle at all
        return 'its first bytes are not those of weights'
    return ' '.join(str(error).split())[:300] or type(error).__name__
