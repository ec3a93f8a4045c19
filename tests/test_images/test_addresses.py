"""Images and shards in an S3 store, by its own library against a real server on the loopback."""

import http.server
import os
import pickle
import threading
from functools import partial

import numpy as np
import pytest
import torch
from shards import LOCAL, make_parquet, make_tar, names_in
from stores import BUCKET, s3_server
from torch.utils.data import DataLoader

from plrc_plugin.datasets.collate import collate_views
from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.datasets.samplers import KeyedSampler
from plrc_plugin.errors import SettingsError
from plrc_plugin.images.sources import files
from plrc_plugin.randomness import SampleKey

for module, extra in dict(s3fs='remote', moto='tests', flask='tests', pyarrow='parquet').items():
    pytest.importorskip(module, reason=f'no {module}: install the extra {extra!r}')

PIPELINE = [
    dict(type='plrc_plugin.TwoViews', size=32),
    dict(type='plrc_plugin.SampleRegionPoints', num_regions=3, points_per_region=2, resolution=14),
]


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(files, 'WAITS', (0.01,) * 7)


@pytest.fixture
def store(monkeypatch):
    with s3_server(monkeypatch) as server:
        yield server


def put(system, path, key):
    system.put(str(path), f'{BUCKET}/{key}', recursive=path.is_dir())
    return f's3://{BUCKET}/{key}'


def listed(dataset):
    return [dataset.image_record(i)['name'] for i in range(len(dataset))]


def batches(dataset, workers=0):
    sampler = KeyedSampler(dataset, seed=5)
    return list(
        DataLoader(dataset, 2, sampler=sampler, num_workers=workers, collate_fn=collate_views)
    )


def assert_same_batches(one, other):
    for a, b in zip(one, other, strict=True):
        assert [p.rpartition('/')[2] for p in a['paths']] == [
            p.rpartition('/')[2] for p in b['paths']
        ]
        assert len(a['skipped']) == len(b['skipped'])
        for view in ('query', 'key'):
            for field in ('pixels', 'affine', 'regions', 'points'):
                assert torch.equal(getattr(a[view], field), getattr(b[view], field))


@pytest.fixture(params=['folder', 'tar', 'tars', 'deflated zip', 'parquet'])
def stored(request, image_folder, store):
    """(data set of the folder, address of the same images, faults)"""
    (image_folder / 'n01/broken.jpg').write_bytes(b'no image')
    path = image_folder if request.param == 'folder' else LOCAL[request.param](image_folder)
    address = put(store[0], path, f'some/{path.name}')
    return ImageFolder(str(image_folder), pipeline=PIPELINE), address, store[1]


def test_images_are_those_of_the_folder_with_workers_too(stored):
    folder, address, _ = stored
    data = ImageFolder(address, pipeline=PIPELINE)
    assert listed(data) == listed(folder)
    expected = batches(folder)
    assert_same_batches(expected, batches(data))
    assert_same_batches(expected, batches(data, workers=2))  # forked from one that has read


@pytest.mark.parametrize('kind', ['busy', 'cut', 'slow'])
def test_faults_of_the_store_change_nothing(stored, kind):
    folder, address, faults = stored
    faults.every, faults.kind = 3, kind
    data = ImageFolder(address, pipeline=PIPELINE)
    assert_same_batches(batches(folder), batches(data))
    assert faults.hits > 1


def test_a_store_that_stays_away_ends_in_one_line(stored, monkeypatch):
    _, address, faults = stored
    data = ImageFolder(address, pipeline=PIPELINE)
    faults.every, faults.kind = 1, 'busy'
    monkeypatch.setattr(files, 'WAITS', (0.01, 0.01))
    monkeypatch.setattr('s3fs.S3FileSystem.retries', 1)
    with pytest.raises(SettingsError, match='could not be read in 3 tries.*--resume') as caught:
        batches(data)
    assert '\n' not in str(caught.value)


def test_patterns_and_lists_at_addresses(image_folder, store, tmp_path):
    system, _ = store
    address = put(system, LOCAL['tars'](image_folder), 'shards')
    expected = listed(ImageFolder(str(image_folder)))
    for root in (f'{address}/*.tar', f'{address}/{{000000..000002}}.tar', f'{address}/'):
        assert listed(ImageFolder(root)) == expected
    put(system, image_folder, 'images')
    assert listed(ImageFolder(f's3://{BUCKET}/images', data_prefix='n01')) == ['c.png', 'd.png']
    names = tmp_path / 'list.txt'
    names.write_text('n01/d.png\ngone.png\na.png\n')
    calls, find = [], type(system).find
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(system), 'find', lambda *a, **k: (calls.append(a), find(*a, **k))[1])
        data = ImageFolder(f's3://{BUCKET}/images', ann_file=str(names), pipeline=PIPELINE)
    assert not calls, 'a list spares listing the store'
    assert listed(data) == ['n01/d.png', 'gone.png', 'a.png']
    ((where, reason),) = data[SampleKey(0, 0, 1)]['skipped'][:1]
    assert where == f's3://{BUCKET}/images/gone.png' and 'FileNotFound' in reason


def test_an_object_that_changes_after_indexing_stops_the_run(image_folder, store):
    system, _ = store
    for make, suffix in ((make_tar, 'tar'), (make_parquet, 'parquet')):
        path = make(image_folder, image_folder.with_suffix(f'.{suffix}'))
        data = _unread(ImageFolder(put(system, path, path.name), pipeline=PIPELINE))
        system.pipe(f'{BUCKET}/{path.name}', b'another')
        with pytest.raises(SettingsError, match='has changed since its index was made'):
            data[SampleKey(0, 0, 1)]
        system.rm(f'{BUCKET}/{path.name}')
        with pytest.raises(SettingsError, match='has changed since its index was made'):
            _unread(data)[SampleKey(0, 0, 1)]


def _unread(data):
    """As another process has it, which has opened nothing yet."""
    copy = pickle.loads(pickle.dumps(data))
    copy._source.place.files._checked = (os.getpid(), set())
    return copy


@pytest.mark.usefixtures('store')
def test_what_cannot_be_had_is_said_in_one_line():
    for root, message in (
        (f's3://{BUCKET}/none', 'holds neither images nor shards'),
        (f's3://{BUCKET}/none.tar', 'none.tar.*cannot be read'),
        (f's3://{BUCKET}/*.tar', 'matches no file'),
        ('s3://no-such-bucket/x', 'bucket does not exist: mend the address'),
        ('s3://no-such-bucket/x.tar', 'x.tar.*cannot be read'),
        ('nonsense://x/y', 'nonsense://.*cannot be used'),
        ('gs://bucket/x', r'plrc_plugin\[remote\]'),
    ):
        with pytest.raises(SettingsError, match=message) as caught:
            ImageFolder(root)
        assert '\n' not in str(caught.value)


def test_what_may_not_be_read_is_said_at_once(image_folder, store, monkeypatch, tmp_path):
    import s3fs

    system, faults = store
    address = put(system, image_folder, 'images')
    faults.every, faults.kind = 1, 'denied'
    with pytest.raises(SettingsError, match=r'may not be read \(PermissionError.*set credentials'):
        ImageFolder(address)
    faults.every = 0
    for name in ('AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'):
        monkeypatch.delenv(name)
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('AWS_EC2_METADATA_DISABLED', 'true')
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(SettingsError, match='may not be read .*NoCredentials.*set credentials'):
        ImageFolder(address)


class _WithRanges(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        span = self.headers.get('Range')
        if span is None or not self.server.ranges:
            return super().do_GET()
        with open(self.translate_path(self.path), 'rb') as file:
            content = file.read()
        first, last = span.removeprefix('bytes=').split('-')
        part = content[int(first) : int(last or len(content)) + 1]
        self.send_response(206)
        self.send_header('Content-Range', f'bytes {first}-{last}/{len(content)}')
        self.send_header('Content-Length', str(len(part)))
        self.end_headers()
        self.wfile.write(part)


def test_shards_of_a_web_server(image_folder, monkeypatch):
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    make_tar(image_folder, image_folder.with_suffix('.tar'))
    handler = partial(_WithRanges, directory=str(image_folder.parent))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        server.ranges = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f'http://127.0.0.1:{server.server_port}/images.tar'
        data = ImageFolder(address, pipeline=PIPELINE)
        assert_same_batches(
            batches(ImageFolder(str(image_folder), pipeline=PIPELINE)), batches(data)
        )
        server.ranges = False
        with pytest.raises(SettingsError, match='gives no parts of files: copy it to disk'):
            data[SampleKey(0, 0, 0)]
        server.shutdown()


def test_memory_is_an_address_too(image_folder):
    fsspec = pytest.importorskip('fsspec')
    system = fsspec.filesystem('memory')
    for name in names_in(image_folder):
        system.pipe(f'/photos/{name}', (image_folder / name).read_bytes())
    data = ImageFolder('memory://photos', pipeline=PIPELINE)
    expected = ImageFolder(str(image_folder), pipeline=PIPELINE)
    assert_same_batches(batches(expected), batches(data))
    views = data[SampleKey(0, 0, 0)]['views']
    assert not np.array_equal(views[0].pixels, views[1].pixels)


def test_nothing_is_fetched_unless_an_address_is_named(image_folder, monkeypatch):
    monkeypatch.setattr(files.RemoteFiles, '__init__', None)
    assert len(ImageFolder(str(make_tar(image_folder, image_folder.with_suffix('.tar'))))) == 6
