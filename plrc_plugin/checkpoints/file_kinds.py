"""Recognises files that hold no weights, and joins weights that are spread over several files."""

import json
import os
import re
import zipfile
from collections.abc import Iterable
from typing import Optional

from torch import Tensor

from plrc_plugin.checkpoints.safe_reading import load_tensors
from plrc_plugin.errors import SettingsError

_PIECE = re.compile(r'-?\d{5}-of-\d{5}')
# The first bytes of files that people download in place of weights, and what to do then.
_BEGINNINGS = (
    (
        rb'version https://git-lfs',
        'is a pointer of git-lfs, not the weights: fetch them by `git lfs pull`',
    ),
    (
        rb'(\xef\xbb\xbf)?\s*<(!--|!doctype|html|\?xml|head|body|error)',
        'is a web page, not weights: the download led to a page; download the file itself',
    ),
    (rb'\s*[{\[]\s*"', 'is a JSON text, not weights: give the file of weights beside it'),
    (rb'\x89HDF', 'is a file of Keras or TensorFlow: take the PyTorch weights of the same model'),
    (rb'GGUF', 'is in GGUF, quantised weights: training needs the float32 file'),
    (rb'\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf', 'is compressed: unpack it, and give the file in it'),
)
_SHORT = 512  # bytes that are looked at
_OTHERS = {
    '.onnx': 'is an ONNX graph',
    '.msgpack': 'is a file of Flax',
    '.tflite': 'is a TensorFlow Lite graph',
    '.npz': 'is an archive of NumPy',
    '.engine': 'is a TensorRT engine',
}


def check_kind_of_file(path: str) -> None:
    """Raises SettingsError, in one line, if the name or the first bytes of a file show that it
    holds no weights."""
    name = os.path.basename(path)
    if os.path.isdir(path):
        inside = _weights_in(os.listdir(path))
        raise SettingsError(
            f'{path} is a folder; give the file of weights in it'
            + (f', such as {os.path.join(path, inside)}' if inside else '')
        )
    if _PIECE.search(name):
        index = _index_beside(path)
        raise SettingsError(
            f'{path} is a piece of a model that is spread over several files: '
            + (f'give {index}, which lists them' if index else 'give its .index.json beside them')
        )
    if is_index(path) or not os.path.isfile(path):
        return
    if not os.path.getsize(path):
        raise SettingsError(f'{path} is empty: copy or download it again')
    with open(path, 'rb') as file:
        start = file.read(_SHORT)
    for pattern, message in _BEGINNINGS:
        if re.match(pattern, start, re.I):
            raise SettingsError(f'{path} {message}')
    if len(start) < _SHORT and re.fullmatch(rb'[\x20-\x7e\s]+', start):
        said = ' '.join(start.decode().split())[:60]
        raise SettingsError(f'{path} is a text ("{said}"), no checkpoint: download the file itself')
    other = _OTHERS.get(os.path.splitext(name)[1].lower())
    if other:
        raise SettingsError(
            f'{path} {other}, no checkpoint of PyTorch: take the PyTorch weights of the same model'
        )
    if start[257:262] == b'ustar':
        raise SettingsError(f'{path} is a tar archive: unpack it, and give the file in it')
    if start[:2] == b'PK':
        _check_archive(path)


def _check_archive(path: str) -> None:
    """Raises SettingsError for a zip file that is no checkpoint of torch. A checkpoint has a
    ``data.pkl``; a TorchScript program has code as well."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return  # a damaged archive; the reader reports it later
    if not any(name.endswith('data.pkl') for name in names):
        raise SettingsError(
            f'{path} is a zip of other things ({", ".join(names[:3]) or "nothing"}), no checkpoint'
            + (
                ': unpack it, and give the file of weights in it'
                if _weights_in(names) or any(name.endswith('.zip') for name in names)
                else ''
            )
        )
    if any(re.search(r'(^|/)code/', name) for name in names):
        raise SettingsError(
            f'{path} is a TorchScript program, no checkpoint: save `torch.jit.load(path)'
            '.state_dict()` where you trust it'
        )


def is_index(path: str) -> bool:
    """Whether a file is the index of a model that is spread over several files."""
    return path.endswith('.index.json')


def joined_pieces(path: str) -> dict[str, Tensor]:
    """The tensors of all files that an ``.index.json`` lists.

    Raises:
        SettingsError: if it lists none, or one of them is missing or lacks its tensors.
    """
    try:
        with open(path) as file:
            places = json.load(file)['weight_map']
        names = sorted(set(places.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f'{path} is no index of weights: it has no "weight_map" of tensors and files'
        ) from error
    tensors: dict[str, Tensor] = {}
    for name in names:
        piece = os.path.join(os.path.dirname(path), os.path.basename(str(name)))
        if not os.path.isfile(piece):
            raise SettingsError(f'no checkpoint at {piece}, which {path} lists: download it too')
        tensors.update(load_tensors(piece))
    missing = [key for key in places if key not in tensors]
    if missing:
        raise SettingsError(
            f'{path} lists {len(missing)} tensors that its files lack, such as {missing[0]}: '
            'download the files again'
        )
    return tensors


def _index_beside(path: str) -> Optional[str]:
    folder = os.path.dirname(path)
    if not os.path.isdir(folder or '.'):
        return None
    stem = _PIECE.split(os.path.basename(path))[0]
    found = [n for n in os.listdir(folder or '.') if is_index(n) and n.startswith(stem)]
    return os.path.join(folder, found[0]) if found else None


def _weights_in(names: Iterable[str]) -> Optional[str]:
    weights = [n for n in names if re.search(r'\.(pth|pt|pth\.tar|ckpt|bin|safetensors|pkl)$', n)]
    return min(weights, default=None)
