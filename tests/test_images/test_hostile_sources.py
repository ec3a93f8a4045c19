"""Shards that somebody means harm by, or that change: names, members, times, killed processes."""

import io
import multiprocessing
import os
import tarfile
import time
import zipfile

import pytest
from shards import make_tar, make_zip, names_in

from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.errors import SettingsError
from plrc_plugin.images.decoding import DecodingError
from plrc_plugin.images.sources import Source, index, places

pytestmark = pytest.mark.faults


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture
def made(monkeypatch):
    """Keeps every index, and counts those that are made."""
    monkeypatch.setattr(index, 'WORTH_REMEMBERING', 1)
    made, make = [], Source._of_shards
    monkeypatch.setattr(Source, '_of_shards', lambda self: (made.append(1), make(self))[1])
    return made


def listed(dataset):
    return [dataset.image_record(i)['name'] for i in range(len(dataset))]


def test_names_lead_nowhere_else(image_folder):
    pyarrow = pytest.importorskip('pyarrow', reason="no pyarrow: install the extra 'parquet'")
    from pyarrow import parquet

    content = (image_folder / 'a.png').read_bytes()
    names = ['/x/a.png', 'x/a.png', '../../b.png', 'x/../c.png', './/d.png']
    path = image_folder.parent / 'names.tar'
    with tarfile.open(path, 'w') as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    assert listed(ImageFolder(str(path))) == ['b.png', 'c.png', 'd.png', 'x/a.png']
    with zipfile.ZipFile(path.with_suffix('.zip'), 'w') as archive:
        for name in names:
            archive.writestr(name.replace('x/a', 'x/e'), content)
        info = zipfile.ZipInfo('of\\windows.png')
        info.create_system = 0
        archive.writestr(info, content)
    assert listed(ImageFolder(str(path.with_suffix('.zip')))) == [
        'b.png', 'c.png', 'd.png', 'of/windows.png', 'x/e.png',
    ]  # fmt: skip
    os.mkfifo(image_folder / 'pipe.png')
    rows = [dict(bytes=None, path=name) for name in ('pipe.png', 'http://127.0.0.1:9/a.png')]
    table = image_folder / 'rows.parquet'
    parquet.write_table(pyarrow.table({'image': rows}), table)
    data = ImageFolder(str(table))
    told = {}
    for i in range(2):
        with pytest.raises((DecodingError, SettingsError)) as caught:
            data.image_record(i)['stored'].read()
        told[data.image_record(i)['name']] = str(caught.value)
    assert 'not a regular file' in told['pipe.png']
    assert 'only what data_root names is fetched' in told['http:/127.0.0.1:9/a.png']


@pytest.mark.parametrize('kind', ['tar', 'zip'])
def test_a_shard_that_changes_with_its_size_and_its_time_kept(image_folder, kind, made):
    """In a run it is noticed member by member; the next start makes the index anew."""
    names = names_in(image_folder)
    contents = [(image_folder / name).read_bytes() for name in names]
    size = max(map(len, contents))
    path = image_folder.parent / f'images.{kind}'

    def write(order):
        padded = [contents[i] + b'\0' * (size - len(contents[i])) for i in order]
        if kind == 'tar':
            with tarfile.open(path, 'w') as archive:
                for name, content in zip([names[i] for i in order], padded):
                    info = tarfile.TarInfo(name)
                    info.size = size
                    archive.addfile(info, io.BytesIO(content))
        else:
            with zipfile.ZipFile(path, 'w') as archive:
                for name, content in zip(names, padded):
                    archive.writestr(zipfile.ZipInfo(name), content)
        os.utime(path, (0, 0))

    write(range(len(names)))
    data, before = ImageFolder(str(path)), path.stat()
    first = [data.image_record(i)['stored'].read() for i in range(len(names))]
    write([*range(1, len(names)), 0])
    assert path.stat().st_size == before.st_size and path.stat().st_mtime == before.st_mtime
    with pytest.raises(DecodingError, match='changed|damaged'):
        data.image_record(0)['stored'].read()
    again = ImageFolder(str(path))
    found = [again.image_record(i)['stored'].read() for i in range(len(names))]
    assert sorted(found) == sorted(first) and len(made) == 2


def test_what_no_image_is_does_not_matter(image_folder):
    path = make_zip(image_folder, image_folder.with_suffix('.zip'))
    with zipfile.ZipFile(path, 'a', zipfile.ZIP_LZMA) as archive:
        archive.writestr('notes.txt', 'of the photographer')
    assert len(ImageFolder(str(path))) == 6
    with zipfile.ZipFile(path, 'a') as archive:
        archive.writestr('secret.png', b'x')
    content = bytearray(path.read_bytes())
    content[content.rindex(b'PK\1\2') + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="member 'secret.png' is encrypted: unpack it first"):
        ImageFolder(str(path))


def test_compressed_archives_in_a_folder_are_told(image_folder, monkeypatch):
    told = []
    monkeypatch.setattr(places, 'print_log', lambda text, *_: told.append(text))
    shards = image_folder.parent / 'shards'
    shards.mkdir()
    with tarfile.open(shards / 'a.tar.gz', 'w:gz') as archive:
        archive.add(image_folder / 'a.png', arcname='a.png')
    (shards / 'b.tar').write_bytes((shards / 'a.tar.gz').read_bytes())
    with pytest.raises(SettingsError, match='b.tar cannot be used: a compressed archive'):
        ImageFolder(str(shards / 'b.tar'))
    (shards / 'b.tar').unlink()
    with pytest.raises(SettingsError, match='a.tar.gz cannot be used.*gunzip'):
        ImageFolder(str(shards))
    make_tar(image_folder, shards / 'b.tar')
    assert len(ImageFolder(str(shards))) == 6
    assert '1 of them, such as a.tar.gz' in told[-1]


def _index_and_die(root, cache_home):
    os.environ['XDG_CACHE_HOME'] = cache_home
    index.WORTH_REMEMBERING = 1
    index.remember = lambda *_, **__: os.kill(os.getpid(), 9)
    ImageFolder(root)


def test_an_index_whose_maker_was_killed_is_made_by_the_next(image_folder, made):
    path = make_tar(image_folder, image_folder.with_suffix('.tar'))
    os.utime(path, ns=(0, time.time_ns() - 60 * 10**9))
    fork = multiprocessing.get_context('fork')
    child = fork.Process(target=_index_and_die, args=(str(path), os.environ['XDG_CACHE_HOME']))
    child.start()
    child.join(60)
    assert child.exitcode == -9
    assert os.path.exists(f'{Source(str(path))._kept_at()}.lock')
    for _ in range(2):
        assert len(ImageFolder(str(path))) == 6
    assert len(made) == 1
