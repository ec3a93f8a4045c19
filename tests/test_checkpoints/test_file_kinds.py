"""What is no file of weights gets one line with a remedy; a model in several files is joined."""

import json
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from plrc_plugin.checkpoints.trunk import read_file, read_trunk
from plrc_plugin.errors import SettingsError

BYTES = {
    'empty.pth': (b'', 'is empty'),
    'empty.safetensors': (b'', 'is empty'),
    'lfs.pth': (b'version https://git-lfs.github.com/spec/v1\noid sha256:0', 'git lfs pull'),
    'lfs.safetensors': (b'version https://git-lfs.github.com/spec/v1\noid', 'git lfs pull'),
    'page.pth': (b'<!DOCTYPE html><html>not found', 'is a web page'),
    'page.pkl': (b'\n <html>not found', 'is a web page'),
    'denied.pth': (b'<?xml version="1.0"?><Error>AccessDenied', 'is a web page'),
    'config.pth': (b'{\n  "architecture": "resnet18"}', 'is a JSON text'),
    'weights.h5': (b'\x89HDF\r\n', 'Keras or TensorFlow'),
    'weights.gguf': (b'GGUF\x03', 'quantised'),
    'weights.pth.gz': (b'\x1f\x8b\x08weights', 'unpack it'),
    'graph.onnx': (b'\x08\x07\x12\x07pytorch', 'is an ONNX graph'),
    'flax_model.msgpack': (b'\x85\xa6params', 'is a file of Flax'),
    'bom.pth': (b'\xef\xbb\xbf<html><body>404', 'is a web page'),
    'comment.pth': (b'\n<!-- moved --><html>', 'is a web page'),
    'text.pth': (b'404: Not Found\n', r'is a text \("404: Not Found"\), no checkpoint: download'),
    'zeros.pth': (bytes(2000), 'first bytes are not those of weights'),
    'photo.pth': (b'\xff\xd8\xff\xe0' * 300, 'first bytes are not those of weights'),
    'array.npy': (b'\x93NUMPY\x01\x00v\x00' + bytes(600), 'no checkpoint'),
    'zip.pth': (b'PK\x03\x04 and nothing more', 'no checkpoint'),
    'noise.safetensors': (bytes(range(64)), 'no checkpoint'),
}


def refused(path, expected):
    with pytest.raises(SettingsError, match=expected) as error:
        read_file(str(path))
    message = str(error.value)
    assert str(path.name) in message and len(message) < 350 and '\n' not in message, message


@pytest.mark.parametrize('name', BYTES)
def test_by_its_first_bytes_or_its_name(name, tmp_path):
    content, expected = BYTES[name]
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, expected)


def test_archives_of_other_things(tmp_path):
    for name, inside, expected in (
        ('a.pth', 'readme.txt', r'other things \(readme.txt\), no checkpoint$'),
        ('b.pth', 'weights/model.pth', 'unpack it'),
        ('zip_of_a_zip.pth', 'weights.zip', 'unpack it'),
    ):
        with zipfile.ZipFile(tmp_path / name, 'w') as archive:
            archive.writestr(inside, 'x')
        refused(tmp_path / name, expected)
    with tarfile.open(tmp_path / 'c.pth', 'w') as archive:
        archive.add(tmp_path / 'a.pth', 'weights.pth')
    refused(tmp_path / 'c.pth', 'is a tar archive: unpack it')
    np.savez(tmp_path / 'array.npz', np.ones(3))
    refused(tmp_path / 'array.npz', 'archive of NumPy')
    torch.jit.trace(torch.nn.Conv2d(3, 3, 1), torch.zeros(1, 3, 2, 2)).save(tmp_path / 'program.pt')
    refused(tmp_path / 'program.pt', r'TorchScript program.*state_dict\(\)')


def test_what_is_cut_off_or_missing(tmp_path, trunk18):
    torch.save(trunk18, tmp_path / 'whole.pth')
    content = (tmp_path / 'whole.pth').read_bytes()
    (tmp_path / 'cut.pth').write_bytes(content[: len(content) // 2])
    refused(tmp_path / 'cut.pth', 'damaged')
    refused(tmp_path / 'missing.pth', 'no checkpoint at')
    with pytest.raises(SettingsError, match='no checkpoint at .*: download it, and give the file'):
        read_file('https://somewhere.org/resnet50.pth')
    (tmp_path / 'folder').mkdir()
    refused(tmp_path / 'folder', 'is a folder')
    (tmp_path / 'folder' / 'model.safetensors').touch()
    refused(tmp_path / 'folder', 'such as .*model.safetensors')


@pytest.mark.parametrize('kind', ['safetensors', 'bin'])
def test_a_model_in_several_files(kind, tmp_path, trunk18):
    safetensors = pytest.importorskip('safetensors.torch')
    save = safetensors.save_file if kind == 'safetensors' else torch.save
    names = list(trunk18)
    halves = {1: names[:60], 2: names[60:]}
    files = {half: f'model-0000{half}-of-00002.{kind}' for half in halves}
    for half, kept in halves.items():
        save({name: trunk18[name] for name in kept}, tmp_path / files[half])
    places = {name: files[half] for half, kept in halves.items() for name in kept}
    index = tmp_path / f'model.{kind}.index.json'
    index.write_text(json.dumps(dict(metadata={}, weight_map=places)))
    trunk, _ = read_trunk(str(index), like=trunk18)
    assert trunk.keys() == trunk18.keys()
    assert all(torch.equal(trunk[name], value) for name, value in trunk18.items())
    refused(tmp_path / files[2], f'give .*model.{kind}.index.json')
    (tmp_path / files[2]).unlink()
    with pytest.raises(SettingsError, match='00002-of-00002.* lists: download it too'):
        read_file(str(index))
    index.write_text(json.dumps(dict(weight_map={**places, 'more': files[1]}).copy()))
    save({name: trunk18[name] for name in halves[2]}, tmp_path / files[2])
    refused(index, 'lists 1 tensors that its files lack, such as more')
    for content in ('{}', '[]', 'nonsense', '{"weight_map": 3}'):
        index.write_text(content)
        refused(index, 'no index of weights')
