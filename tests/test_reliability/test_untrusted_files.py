"""Checkpoints from outside: whatever is in them, nothing of it runs."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.runner import CheckpointLoader
from runs import make_images, tiny_config, train

from plrc_plugin.checkpoints.mmengine_loader import read_without_running
from plrc_plugin.checkpoints.safe_reading import damage_of, plain_scalars, read_checkpoint
from plrc_plugin.errors import SettingsError
from plrc_plugin.registry import MODELS

pytestmark = pytest.mark.stack


class Payload:
    """Unpickling it runs code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return eval, (f'open({self.path!r}, "w")',)


def text(value: str) -> bytes:
    data = value.encode()
    return b'X' + struct.pack('<I', len(data)) + data


def crafted_checkpoint(path: Path, marker: Path) -> None:
    """Only names that mmengine's own checkpoints need, and yet: by ``getattr`` it reaches the
    globals of ``HistoryBuffer``, makes their ``len`` ``eval``, and ``HistoryBuffer`` calls it."""
    get = b'cbuiltins\ngetattr\n'
    history = b'cmmengine.logging.history_buffer\nHistoryBuffer\n'

    def attribute(owner, name):
        return get + owner + text(name) + b'\x86R'

    names = attribute(attribute(history, '__init__'), '__globals__')
    evaluate = attribute(attribute(get, '__self__'), 'eval')
    code = f"__import__('pathlib').Path({str(marker)!r}).touch() or 0"
    pickled = (
        b'\x80\x02'
        + names
        + text('len')
        + evaluate
        + b's'
        + history
        + text(code)
        + text('0')
        + b'\x86R.'
    )
    write_pickled(pickled, path)


def write_pickled(pickled: bytes, path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({}, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, 'w') as target:
        for name in source.namelist():
            target.writestr(name, pickled if name.endswith('data.pkl') else source.read(name))


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp('data') / 'images')


@pytest.fixture(params=['crafted', 'payload'])
def evil(request, tmp_path):
    path = tmp_path / 'epoch_1.pth'
    if request.param == 'crafted':
        crafted_checkpoint(path, tmp_path / 'ran')
    else:
        torch.save(dict(meta=Payload(str(tmp_path / 'ran')), state_dict={}, message_hub={}), path)
    yield path
    assert not (tmp_path / 'ran').exists()


def test_neither_looking_nor_resuming_nor_starting_from_it_runs_anything(evil, images, tmp_path):
    assert 'cannot be read: it holds more than tensors' in damage_of(str(evil))
    cfg = tiny_config(images, tmp_path / 'run', load_from=str(evil), resume=True)
    with pytest.raises(SettingsError, match='resume from .*epoch_1.pth'):
        train(cfg)


def test_resuming_does_not_execute_the_config_in_the_checkpoint(images, tmp_path):
    train(tiny_config(images, tmp_path / 'run', **{'train_cfg.max_epochs': 1}))
    path = str(tmp_path / 'run/epoch_1.pth')
    checkpoint = torch.load(path, weights_only=True)
    checkpoint['meta']['config'] = f'open({str(tmp_path / "ran")!r}, "w")\n'
    torch.save(checkpoint, path)
    runner = train(
        tiny_config(
            images, tmp_path / 'other', load_from=path, resume=True, **{'train_cfg.max_epochs': 2}
        )
    )
    assert runner.epoch == 2
    assert not (tmp_path / 'ran').exists()


def test_starting_from_weights_builds_tensors_alone(images, tmp_path):
    evil = tmp_path / 'weights.pth'
    options = {'train_cfg.max_epochs': 1, 'optim_wrapper.optimizer.lr': 0.0}
    cfg = tiny_config(images, tmp_path / 'run', **options)
    trunk = MODELS.build(cfg.model.backbone).state_dict()
    weights = {f'backbone.{name}': value for name, value in trunk.items()}
    torch.save(dict(state_dict=weights, meta=Payload(str(tmp_path / 'ran'))), evil)
    cfg.pretrained = str(evil)
    runner = train(cfg)
    assert torch.equal(runner.model.momentum_backbone.conv1.weight, trunk['conv1.weight'])
    assert not (tmp_path / 'ran').exists()
    for setting in (
        {'load_from': str(evil)},
        {'model.init_cfg': dict(type='Pretrained', checkpoint=str(evil))},
    ):
        with pytest.raises(SettingsError, match=f'set pretrained={evil}'):
            train(tiny_config(images, tmp_path / 'other', **setting, **options))
        assert not (tmp_path / 'ran').exists()
    for backbone in (
        dict(pretrained=str(evil)),
        dict(init_cfg=dict(type='mmengine.Pretrained', checkpoint=str(evil))),
    ):
        pytest.importorskip('mmdet.models')
        MODELS.build(dict(type='mmdet.ResNet', depth=18, **backbone)).init_weights()
        assert not (tmp_path / 'ran').exists()
    for url in ('http://127.0.0.1:9/weights.pth', 's3://weights.pth'):
        with pytest.raises(SettingsError, match='download the checkpoint first'):
            train(tiny_config(images, tmp_path / 'another', load_from=url))


def test_mmengine_hands_on_no_config_of_a_file_with_anything_foreign(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    torch.save(
        dict(
            state_dict=dict(weight=torch.ones(2)),
            other=Payload(str(tmp_path / 'ran')),
            meta=dict(epoch=0, iter=0, config='0'),
        ),
        path,
    )
    read_without_running()
    found = CheckpointLoader.load_checkpoint(str(path))
    assert 'meta' not in found and found['state_dict']['weight'].sum() == 2
    assert not (tmp_path / 'ran').exists()


def test_arrays_of_pointers_are_refused(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    data = b'c_codecs\nencode\n' + text('A' * 8) + text('latin1') + b'\x86R'
    objects = b'cnumpy\ndtype\n' + text('O') + b'\x85R'
    write_pickled(b'\x80\x02cnumpy\nndarray\n(K\x01\x85' + objects + data + b'tR.', path)
    with pytest.raises(Exception, match="it asks for an array of 'O'"):
        read_checkpoint(str(path))


def test_scalars_outlive_the_checkpoint_in_either_form(tmp_path):
    hub = MessageHub.get_instance(str(tmp_path))
    for value in (1.5, 2.5, 4.0):
        hub.update_scalar('train/loss', value)
    hub.update_info('best_score', np.float32(3))
    plain = hub.state_dict()
    plain_scalars(plain)
    for form in (hub.state_dict(), plain):
        path = str(tmp_path / 'checkpoint.pth')
        torch.save(dict(meta={}, state_dict={}, message_hub=form), path)
        assert damage_of(path) is None
        found = read_checkpoint(path)['message_hub']
        assert found['runtime_info']['best_score'] == 3
        assert found['log_scalars']['train/loss'].mean(2) == 3.25
    # torch reads ours without having to trust a single type
    assert torch.load(path, weights_only=True)['message_hub']['log_scalars']
