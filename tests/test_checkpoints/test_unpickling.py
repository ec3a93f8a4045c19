"""Every file that is a checkpoint can be read, and no file can do anything but be read."""

import argparse
import contextlib
import functools
import io
import pickle
import struct
import tarfile
import zipfile
from collections import Counter, OrderedDict, defaultdict
from datetime import date, datetime, timedelta, timezone, tzinfo
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
import torch
from mmengine import ConfigDict
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from torch import Tensor, nn

from plrc_plugin.checkpoints.mmengine_loader import load_from_file
from plrc_plugin.checkpoints.safe_reading import damage_of, load_tensors, read_checkpoint
from plrc_plugin.checkpoints.unpickling import Nothing, RefusedError, unpickle
from plrc_plugin.errors import SettingsError

pytestmark = pytest.mark.stack

FORMS = [pytest.param(True, id='zip'), pytest.param(False, id='before torch 1.6')]


class Tagged(Tensor):
    """A tensor with a class of its own, as torchvision's images are."""


def everything() -> dict:
    grid = torch.arange(12.0).reshape(3, 4)
    return dict(
        float=grid,
        rows=grid[1:],
        turned=grid.t(),
        parameter=nn.Parameter(grid.clone()),
        tagged=grid.clone().as_subclass(Tagged),
        half=grid.half(),
        bfloat16=grid.bfloat16(),
        bool=grid > 3,
        long=grid.long(),
        complex=torch.complex(grid, grid),
        empty=torch.empty(0, 3),
        scalar=torch.tensor(2.0),
        state=nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict(),
        array=np.arange(6.0).reshape(2, 3),
        columns=np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        names=np.array(['a', 'bc']),
        number=np.float32(3),
        options=argparse.Namespace(arch='resnet50', lr=0.03),
        milestones=Counter([8, 11]),
        groups=defaultdict(list, {'a': [1, 2]}),
        ids={1, 2},
        shape=grid.shape,
        device=torch.device('cpu'),
        dtype=torch.float16,
        bytes=b'abc',
        metainfo=ConfigDict(classes=('cat',), things=dict(cat=ConfigDict(id=3))),
        times=[date(2024, 2, 29), datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2)))],
        paths=[Path('runs', 'a'), PureWindowsPath('runs', 'b')],
    )


@pytest.mark.parametrize('zipped', FORMS)
@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_reads_all_that_frameworks_write(zipped, protocol, tmp_path):
    written, path = everything(), tmp_path / 'checkpoint.pth.tar'
    torch.save(written, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    read, unbuilt = unpickle(path)
    assert set(unbuilt) == {'argparse.Namespace', f'{__name__}.Tagged'}
    for name, value in written.items():
        if isinstance(value, Tensor):
            plain = value.detach().as_subclass(Tensor)
            assert type(read[name]) is Tensor and read[name].dtype == plain.dtype
            assert torch.equal(read[name], plain) and read[name].stride() == plain.stride()
        elif isinstance(value, np.ndarray):
            assert read[name].dtype == value.dtype and np.array_equal(read[name], value)
        elif name not in ('options', 'state'):
            assert read[name] == value, name
    assert isinstance(read['options'], Nothing)
    assert read['state']._metadata == written['state']._metadata
    nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).load_state_dict(read['state'])
    read['float'][1, 0] = 77  # tensors that shared their numbers share them again
    assert read['rows'][0, 0] == 77


class Elsewhere(tzinfo):
    """A time zone of a library."""


def test_leaves_out_what_stands_on_foreign_objects(tmp_path):
    path = tmp_path / 'checkpoint.pth'
    written = dict(
        time=datetime(2024, 1, 1, tzinfo=Elsewhere()),
        objects=np.array([None, 1], dtype=object),
        weight=torch.ones(2),
    )
    torch.save(written, path)
    read = load_tensors(path)
    assert isinstance(read['time'], Nothing) and isinstance(read['objects'], Nothing)
    assert torch.equal(read['weight'], written['weight'])
    assert set(unpickle(path)[1]) == {
        f'{__name__}.Elsewhere',
        'a datetime of other objects',
        "an array of 'O8'",
    }


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_reads_arrays_of_a_plain_pickle_as_tensors(protocol, tmp_path):
    path = tmp_path / 'R-50.pkl'
    weights = dict(weight=np.ones((2, 3), np.float32), bias=np.zeros(()), none=np.zeros((0, 2)))
    with open(path, 'wb') as file:
        pickle.dump(
            dict(model=weights, __author__='MOCO', matching_heuristics=True), file, protocol
        )
    read = load_tensors(path)
    assert read['__author__'] == 'MOCO'
    for name, array in weights.items():
        assert torch.equal(read['model'][name], torch.from_numpy(array))


def test_reads_the_arrays_of_python_2(tmp_path):
    """As ``cPickle.dump(..., protocol=2)`` of Python 2 writes: bytes are text of 8 bits."""
    data = np.array([1.5, -2.0], np.float32).tobytes()
    pickled = (
        b'\x80\x02}U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b'
        b'\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff'
        b'J\xff\xff\xff\xffK\x00tb\x89U' + bytes([len(data)]) + data + b'tbs.'
    )
    (tmp_path / 'R-50.pkl').write_bytes(pickled)
    assert load_tensors(tmp_path / 'R-50.pkl')['w'].tolist() == [1.5, -2.0]


@pytest.mark.parametrize('zipped', FORMS)
def test_reads_mmengines_scalars_to_resume_from(zipped, tmp_path):
    hub = MessageHub.get_instance('scalars')
    for value in (1.5, 2.5, 4.0):
        hub.update_scalar('train/loss', value)
    hub.update_info('best_score', np.float32(3))
    path = str(tmp_path / 'epoch_1.pth')
    meta = dict(epoch=1, dataset_meta=dict(things=ConfigDict(cat=1)))  # as a config gives it
    whole = dict(meta=meta, state_dict={}, message_hub=hub.state_dict())
    torch.save(whole, path, _use_new_zipfile_serialization=zipped)
    assert damage_of(path) is None
    read = load_from_file(path)['message_hub']
    assert load_from_file(path)['meta'] == meta
    assert isinstance(read['log_scalars']['train/loss'], HistoryBuffer)
    assert read['log_scalars']['train/loss'].mean(2) == 3.25
    assert read['runtime_info']['best_score'] == 3


@pytest.mark.parametrize(
    'schedule',
    [
        dict(type='LinearLR', end=3),
        dict(type='MultiStepLR', milestones=[1, 2]),
        dict(type='CosineAnnealingLR', T_max=3),
        dict(type='OneCycleLR', eta_max=0.1, total_steps=10),
        dict(type='PolyLR'),
        dict(type='ReduceOnPlateauLR', monitor='loss', rule='less'),
    ],
    ids=lambda schedule: schedule['type'],
)
def test_every_schedule_goes_on_from_its_file(schedule, tmp_path):
    def build():
        optimizer = dict(type='AdamW', lr=0.1)
        wrapper = build_optim_wrapper(nn.Linear(1, 1), dict(optimizer=optimizer))
        return PARAM_SCHEDULERS.build(dict(schedule, optimizer=wrapper)), wrapper

    def step(scheduler):
        scheduler.step(*([dict(loss=1.0)] if 'Plateau' in schedule['type'] else []))

    (written, wrapper), (read, other) = build(), build()
    step(written)
    torch.save(dict(schedule=written.state_dict(), optimizer=wrapper.state_dict()), tmp_path / 'a')
    state = read_checkpoint(tmp_path / 'a')
    read.load_state_dict(state['schedule'])
    other.load_state_dict(state['optimizer'])
    for scheduler in (written, read):
        step(scheduler)
    assert other.get_lr() == wrapper.get_lr()


def test_what_cannot_be_resumed_from_is_named(tmp_path):
    path = str(tmp_path / 'epoch_1.pth')
    torch.save(dict(meta={}, state_dict={}, message_hub={}, options=argparse.Namespace()), path)
    assert 'argparse.Namespace' in damage_of(path)
    torch.save(nn.Linear(1, 1), path)
    with pytest.raises(
        SettingsError, match=r'holds objects that only code.*torch.nn.*Linear.*state_dict\(\)'
    ):
        load_tensors(path)


# Attacks. Each is the pickle of a checkpoint; CODE would make the file `ran` if it were evaluated.


def text(value: str) -> bytes:
    data = value.encode()
    return b'X' + struct.pack('<I', len(data)) + data


def call(name: bytes, *arguments: bytes) -> bytes:
    return name + b'(' + b''.join(arguments) + b'tR'


CODE = text("open('ran', 'w')")
EVAL = b'cbuiltins\neval\n'
GETATTR = b'cbuiltins\ngetattr\n'
BUILDER = b'ctorch._utils\n_rebuild_tensor_v2\n'
FROM_TYPE = b'ctorch._tensor\n_rebuild_from_type_v2\n'
HISTORY = b'cmmengine.logging.history_buffer\nHistoryBuffer\n'
ORDERED = b'ccollections\nOrderedDict\n'
FLOATS = (
    b'((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ'
)
RUN_NOTHING = {
    'a call': call(EVAL, CODE),
    'an old instance': b'(' + CODE + b'ibuiltins\neval\n',
    'an old object': b'(' + EVAL + CODE + b'o',
    'a new object': EVAL + CODE + b'\x85\x81',
    'keywords': EVAL + CODE + b'\x85}\x92',
    'a name off the stack': text('os') + text('system') + b'\x93' + text('touch ran') + b'\x85R',
    'a nested name': text('torch') + text('os.system') + b'\x93' + text('touch ran') + b'\x85R',
    'a name of our own': call(b'cplrc_plugin.checkpoints.unpickling\npickle.loads\n', CODE),
    'an import': call(b'cbuiltins\n__import__\n', text('antigravity')),
    'a chain of calls': call(call(EVAL, CODE), CODE),
    'a builder that calls': call(FROM_TYPE, EVAL, EVAL, b'(' + CODE + b't', b'}'),
    'a partial': call(b'cfunctools\npartial\n', EVAL, CODE),
    'attributes of attributes': call(
        call(GETATTR, call(GETATTR, HISTORY, text('__init__')), text('__globals__')), CODE
    ),
    'attributes of a schedule': call(
        GETATTR,
        b'cmmengine.optim.scheduler.param_scheduler\nOneCycleParamScheduler\n',
        text('__init__'),
    ),
    'a call of a curve': call(
        call(
            GETATTR,
            b'cmmengine.optim.scheduler.param_scheduler\nOneCycleParamScheduler\n',
            text('_annealing_cos'),
        ),
        CODE,
    ),
    'a registered object': b'\x82\x01',
    'attributes of a builder': BUILDER + b'}' + text('__code__') + EVAL + b'sb',
    'slots of a builder': BUILDER + b'N}' + text('__defaults__') + EVAL + b's\x86b',
    'attributes of a class': HISTORY + b'N}' + text('mean') + EVAL + b's\x86b',
    'attributes of a foreign object': call(b'cargparse\nNamespace\n') + b'}' + CODE + EVAL + b'sb',
    'a method of a dictionary': call(ORDERED) + b'}' + text('items') + EVAL + b'sb',
    'filling a builder': BUILDER + CODE + EVAL + b's',
    'filling a number': b'K\x01' + CODE + EVAL + b's',
    'appending to a class': HISTORY + CODE + b'a',
    'a call of a number': b'K\x01' + CODE + b'\x85R',
    'an object outside': CODE + b'Q',
    'a text outside': b'Pran\n',
    'a type of the file': call(b'ctorch\nload\n', text('ran')),
    'a factory': call(b'ccollections\ndefaultdict\n', EVAL),
}


def write_zip(pickled: bytes, path) -> None:
    buffer = io.BytesIO()
    torch.save(dict(a=torch.zeros(4)), buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, 'w') as target:
        for name in source.namelist():
            target.writestr(name, pickled if name.endswith('data.pkl') else source.read(name))


def write_legacy(pickled: bytes, path) -> None:
    buffer = io.BytesIO()
    torch.save({}, buffer, _use_new_zipfile_serialization=False)
    buffer.seek(0)
    for _ in range(3):
        pickle.load(buffer)
    head = buffer.getvalue()[: buffer.tell()]
    path.write_bytes(head + pickled + pickle.dumps([]))


def write_pickle(pickled: bytes, path) -> None:
    path.write_bytes(pickled)


WRITERS = [write_zip, write_legacy, write_pickle]


def try_all_readers(path, monkeypatch) -> None:
    """Opens a file in every way that the package has, in a folder where nothing may appear."""
    monkeypatch.chdir(path.parent)
    assert damage_of(str(path)) is not None
    with contextlib.suppress(Exception):
        read_checkpoint(str(path))
    for read in (load_tensors, load_from_file):
        with contextlib.suppress(SettingsError):
            read(str(path))
    assert [found.name for found in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize('write', WRITERS)
@pytest.mark.parametrize('attack', RUN_NOTHING)
def test_nothing_of_a_file_runs(attack, write, tmp_path, monkeypatch):
    path = tmp_path / 'epoch_1.pth'
    write(b'\x80\x04}' + text('evil') + RUN_NOTHING[attack] + b's.', path)
    try_all_readers(path, monkeypatch)
    assert HistoryBuffer([1.0, 3.0], [1, 1]).mean() == 2
    # What other files hold is still built.
    torch.save(dict(a=torch.ones(2)), path)
    assert load_tensors(path)['a'].sum() == 2


def tensor(size: bytes, stride: bytes, offset: bytes = b'K\x00') -> bytes:
    return call(BUILDER, FLOATS, offset, size, stride, b'\x89', call(ORDERED))


def number(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


BEYOND = {
    'more numbers than there are': tensor(number(5) + b'\x85', b'K\x01\x85'),
    'a far offset': tensor(b'K\x01\x85', b'K\x01\x85', number(2**62)),
    'a negative offset': tensor(b'K\x01\x85', b'K\x01\x85', number(-4)),
    'a negative stride': tensor(b'K\x02\x85', number(-1) + b'\x85'),
    'a negative size': tensor(number(-1) + b'\x85', b'K\x01\x85'),
    'a size that overflows': tensor(number(2**62) + b'K\x04\x86', b'K\x04K\x01\x86'),
    'a size that is text': tensor(text('4') + b'\x85', b'K\x01\x85'),
    'fewer strides than sizes': tensor(b'K\x02K\x02\x86', b'K\x01\x85'),
    'a huge storage': FLOATS.replace(b'K\x04', number(2**40)),
    'a negative storage': FLOATS.replace(b'K\x04', number(-4)),
    'another record': FLOATS.replace(b'X\x01\x00\x00\x000', text('../version')),
}


@pytest.mark.parametrize('write', [write_zip, write_legacy])
@pytest.mark.parametrize('attack', BEYOND)
def test_no_tensor_reaches_beyond_its_file(attack, write, tmp_path, monkeypatch):
    path = tmp_path / 'epoch_1.pth'
    write(b'\x80\x02}' + text('evil') + BEYOND[attack] + b's.', path)
    try_all_readers(path, monkeypatch)
    with pytest.raises(SettingsError, match='damaged or no checkpoint'):
        load_tensors(path)


def test_an_archive_that_grows_is_refused(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    buffer = io.BytesIO()
    torch.save(dict(a=torch.zeros(4)), buffer)
    with (
        zipfile.ZipFile(buffer) as source,
        zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            zeros = bytes(50_000_000) if '/data/' in name else source.read(name)
            target.writestr(name, zeros)
    with pytest.raises(SettingsError, match='more memory than the file is long'):
        load_tensors(path)
    assert 'more memory than the file is long' in damage_of(str(path))


def test_an_index_beyond_all_memory_costs_none(tmp_path):
    path = tmp_path / 'weights.pkl'
    path.write_bytes(b'\x80\x02}r' + struct.pack('<I', 2**31 - 1) + b'.')
    assert load_tensors(path) == {}


def test_an_array_reaches_no_further_than_its_data(tmp_path):
    class Array:
        def __init__(self, shape, code):
            self.shape, self.code = shape, code

        def __reduce__(self):
            state = (1, self.shape, np.dtype(self.code), False, b'\0' * 8)
            return np.empty(0).__reduce__()[0], (np.ndarray, (0,), b'b'), state

    for shape, code in (((2**40,), 'f8'), ((3,), 'f4'), ((-1,), 'f8')):
        with open(tmp_path / 'weights.pkl', 'wb') as file:
            pickle.dump(dict(a=Array(shape, code)), file, 2)
        with pytest.raises(SettingsError, match='damaged or no checkpoint'):
            load_tensors(tmp_path / 'weights.pkl')


def test_a_tar_archive_and_a_program_are_refused_by_name(tmp_path):
    with tarfile.open(tmp_path / 'weights.tar', 'w') as archive:
        archive.addfile(tarfile.TarInfo('pickle'), io.BytesIO())
    with pytest.raises(SettingsError, match=r'weights\.tar'):
        load_tensors(tmp_path / 'weights.tar')
    torch.jit.script(nn.ReLU()).save(str(tmp_path / 'program.pt'))
    with pytest.raises(SettingsError, match='TorchScript program'):
        load_tensors(tmp_path / 'program.pt')


def test_sharing_that_explodes_when_copied_is_read_in_no_time(tmp_path):
    nested = dict(a=1)
    for _ in range(200):
        nested = dict(left=nested, right=nested)
    itself = dict(nested=nested)
    itself['itself'] = itself
    with open(tmp_path / 'weights.pkl', 'wb') as file:
        pickle.dump(itself, file)
    assert load_tensors(tmp_path / 'weights.pkl')['nested'].keys() == {'left', 'right'}


def test_whatever_is_cut_or_changed_ends_in_a_sentence(tmp_path):
    """Of a small checkpoint in both forms: each length, and one changed byte in many places."""
    for zipped in (True, False):
        whole = io.BytesIO()
        torch.save(dict(a=torch.ones(3)), whole, _use_new_zipfile_serialization=zipped)
        whole = whole.getvalue()
        broken = [whole[:length] for length in range(0, len(whole), 7)]
        broken += [
            whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
            for place in range(0, len(whole), 11)
        ]
        path = tmp_path / 'broken.pth'
        for content in broken:
            path.write_bytes(content)
            try:
                load_tensors(path)
            except SettingsError as error:
                assert 'broken.pth' in str(error) and '\n' not in str(error)


def test_a_refusal_is_an_unpickling_error_for_those_who_catch_one(tmp_path):
    torch.save(dict(a=functools.partial(int)), tmp_path / 'a.pth')
    with pytest.raises(pickle.UnpicklingError, match=r'functools\.partial'):
        read_checkpoint(tmp_path / 'a.pth')
    assert issubclass(RefusedError, pickle.UnpicklingError)
    torch.save(OrderedDict(a=torch.ones(1)), tmp_path / 'a.pth')
    assert read_checkpoint(tmp_path / 'a.pth')['a'] == 1
