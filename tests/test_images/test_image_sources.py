"""Shards on disk: the same images as in a folder, and what is said of broken ones."""

import io
import json
import multiprocessing
import os
import pickle
import tarfile
import time
import zipfile

import numpy as np
import pytest
from PIL import Image
from shards import (
    LOCAL,
    make_arrow,
    make_parquet,
    make_tar,
    make_tars,
    make_zip,
    names_in,
    table_of,
)

from plrc_plugin.datasets.collate import collate_views
from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.errors import SettingsError
from plrc_plugin.images import cache
from plrc_plugin.images.sources import Source, index, places
from plrc_plugin.randomness import SampleKey
from plrc_plugin.registry import DATASETS

PIPELINE = [
    dict(type='plrc_plugin.TwoViews', size=32),
    dict(type='plrc_plugin.SampleRegionPoints', num_regions=3, points_per_region=2, resolution=14),
]
TABLES = ('parquet', 'arrow')


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture(params=LOCAL)
def kind(request):
    if request.param in TABLES:
        pytest.importorskip('pyarrow', reason="no pyarrow: install the extra 'parquet'")
    return request.param


@pytest.fixture
def pyarrow():
    return pytest.importorskip('pyarrow', reason="no pyarrow: install the extra 'parquet'")


def listed(dataset):
    return [dataset.image_record(i)['name'] for i in range(len(dataset))]


def assert_equal_samples(one, other, epoch=1):
    assert listed(one) == listed(other)
    keys = [SampleKey(3, epoch, i) for i in range(len(one))]
    a, b = (collate_views([data[key] for key in keys]) for data in (one, other))
    for view in ('query', 'key'):
        for field in ('pixels', 'affine', 'regions', 'points', 'size'):
            assert np.array_equal(getattr(a[view], field), getattr(b[view], field)), field
    return a, b


def test_images_are_those_of_the_folder(image_folder, kind):
    (image_folder / 'n01/broken.jpg').write_bytes(b'no image')
    (image_folder / 'n01/zoë.png').write_bytes((image_folder / 'a.png').read_bytes())
    (image_folder / 'notes.txt').write_text('no image')
    shards = LOCAL[kind](image_folder)
    if kind in TABLES:  # whatever is in the column counts as an image
        (image_folder / 'notes.txt').rename(image_folder / 'notes.jpg')
        shards = LOCAL[kind](image_folder)
    folder = ImageFolder(str(image_folder), pipeline=PIPELINE)
    stored = ImageFolder(str(shards), pipeline=PIPELINE)
    a, b = assert_equal_samples(folder, stored)
    assert len(a['skipped']) == len(b['skipped']) > 0
    if kind != 'tars':  # whose folder has another name
        assert a['paths'] == b['paths']
        assert np.array_equal(a['query'].image_ids, b['query'].image_ids)
    copy = pickle.loads(pickle.dumps(stored))
    assert_equal_samples(stored, copy)
    stored.get_subset_([4, 1])
    assert listed(stored) == [listed(folder)[4], listed(folder)[1]]
    assert stored.get_cat_ids(0) == [os.path.dirname(listed(folder)[4])]


@pytest.mark.parametrize(
    'root', ['shards', 'shards/', 'shards/*.tar', 'shards/{000000..000002}.tar', 'sh?rds/*.tar']
)
def test_ways_to_name_several_shards(image_folder, root):
    make_tars(image_folder, image_folder.parent / 'shards')
    data = ImageFolder(f'{image_folder.parent}/{root}')
    assert listed(data) == listed(ImageFolder(str(image_folder)))
    with pytest.raises(SettingsError, match='000003.tar.*No such file'):
        ImageFolder(f'{image_folder.parent}/shards/{{000000..000009}}.tar')
    with pytest.raises(SettingsError, match='matches no file.*mend the pattern'):
        ImageFolder(f'{image_folder.parent}/shards/*.zip')


@pytest.mark.parametrize('make, suffix', [(make_tar, '.tar'), (make_zip, '.zip')])
def test_a_folder_within_a_shard_by_root_or_prefix(image_folder, make, suffix):
    path = make(image_folder, image_folder.with_suffix(suffix))
    expected = ImageFolder(str(image_folder / 'n01'))
    for settings in (
        dict(data_root=f'{path}/n01'),
        dict(data_root=str(path), data_prefix='n01'),
        dict(data_root=str(image_folder.parent), data_prefix=dict(img_path=f'{path.name}/n01')),
    ):
        data = ImageFolder(**settings)
        assert listed(data) == listed(expected) == ['c.png', 'd.png']
        assert data.image_record(0)['img_path'] == expected.image_record(0)['img_path']


def test_selection_and_lists(image_folder, kind):
    shards = str(LOCAL[kind](image_folder))
    for settings in (
        dict(include='n01/*'),
        dict(exclude=['*.PNG', 'n02/*']),
        dict(include=['n0*/*', 'a.png'], exclude='d.png'),
    ):
        assert listed(ImageFolder(shards, **settings)) == listed(
            ImageFolder(str(image_folder), **settings)
        )
    with pytest.raises(SettingsError, match="holds no image.*include=\\['x/\\*'\\]"):
        ImageFolder(shards, include='x/*')
    names = image_folder.parent / 'list.csv'
    names.write_text('id,picture,label\n1,n01/d.png,0\n2,gone.png,1\n3,a.png,1\n4,n01/d.png,2\n')
    settings = dict(ann_file=str(names), ann_column='picture', pipeline=PIPELINE)
    with pytest.raises(SettingsError, match='set ann_column to the one'):
        ImageFolder(shards, ann_file=str(names))
    folder, stored = ImageFolder(str(image_folder), **settings), ImageFolder(shards, **settings)
    assert listed(stored) == ['n01/d.png', 'gone.png', 'a.png', 'n01/d.png']
    a, b = assert_equal_samples(folder, stored)
    assert len(a['skipped']) == len(b['skipped']) == 1
    names.write_text('id,picture\n1,x.png\n')
    with pytest.raises(SettingsError, match='none of the 1 listed images.*relative to the shard'):
        ImageFolder(shards, **settings)


def test_wrappers_of_mmengine(image_folder, kind):
    shards = str(LOCAL[kind](image_folder))

    def joined(root):
        part = dict(type='plrc_plugin.ImageFolder', data_root=root, pipeline=PIPELINE)
        repeated = dict(type='RepeatDataset', dataset=part, times=2)
        balanced = dict(type='ClassBalancedDataset', dataset=part, oversample_thr=0.4)
        config = dict(type='ConcatDataset', datasets=[repeated, balanced])
        return DATASETS.build(dict(type='plrc_plugin.KeyedDataset', dataset=config))

    one, other = joined(str(image_folder)), joined(shards)
    assert len(one) == len(other) > 12
    for i in range(len(one)):
        a, b = one[SampleKey(0, 1, i)], other[SampleKey(0, 1, i)]
        assert a['name'] == b['name']
        assert np.array_equal(a['views'][0].pixels, b['views'][0].pixels)


# Broken shards.


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.mark.parametrize('share', [0, 0.01, 0.3, 0.6, 0.9])
def test_a_shard_that_was_cut_off_is_named_at_the_start(image_folder, kind, share):
    shards = LOCAL[kind](image_folder)
    broken = shards / '000001.tar' if kind == 'tars' else shards
    size = broken.stat().st_size
    cut(broken, share)
    if 'tar' in kind and share == 0.9 and broken.stat().st_size > size - 9000:
        pytest.skip('only padding was cut')
    with pytest.raises(SettingsError, match=f'{broken.name}') as caught:
        data = ImageFolder(str(shards), pipeline=PIPELINE)
        assert kind == 'arrow', 'the index must tell'  # it may end between two batches
        assert len(data) < 6
        raise SettingsError(broken.name)
    assert '\n' not in str(caught.value)


def test_a_tar_that_ends_between_members_or_holds_rubbish(image_folder):
    path = make_tar(image_folder, image_folder.with_suffix('.tar'))
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        members = archive.getmembers()
    path.write_bytes(whole[: members[3].offset])
    with pytest.raises(SettingsError, match=f'no end mark after member {members[2].name!r}.*anew'):
        ImageFolder(str(path))
    damaged = bytearray(whole)
    damaged[members[3].offset : members[3].offset + 100] = b'x' * 100
    path.write_bytes(damaged)
    with pytest.raises(SettingsError, match=f'follows its member {members[2].name!r} is no member'):
        ImageFolder(str(path))
    path.write_bytes(whole + whole)
    with pytest.raises(SettingsError, match='goes on behind its end mark.*--concatenate'):
        ImageFolder(str(path))
    for content in (b'', b'<html>404</html>', os.urandom(4000)):
        path.write_bytes(content)
        with pytest.raises(SettingsError, match='cannot be used'):
            ImageFolder(str(path))


@pytest.mark.parametrize('suffix', ['.tar.gz', '.tgz', '.tar.zst', '.7z'])
def test_compressed_archives_are_refused_with_a_remedy(tmp_path, suffix):
    (tmp_path / f'x{suffix}').write_bytes(b'')
    with pytest.raises(SettingsError, match='compressed archive.*unpack it'):
        ImageFolder(str(tmp_path / f'x{suffix}'))


def test_damage_inside_a_member_costs_that_image_alone(image_folder):
    for make, suffix in ((make_tar, '.tar'), (make_zip, '.zip')):
        path = make(image_folder, image_folder.with_suffix(suffix))
        content = (image_folder / 'n01/c.png').read_bytes()
        damaged = path.read_bytes().replace(content[20:], b'\0' * len(content[20:]))
        path.write_bytes(damaged)
        data = ImageFolder(str(path), pipeline=PIPELINE)
        skipped = [skip for i in range(6) for skip in data[SampleKey(0, 0, i)]['skipped']]
        assert {where for where, _ in skipped} == {f'{path}: n01/c.png'}, suffix


def test_links_other_flavours_and_companions_of_tar(image_folder, tmp_path):
    path, long = tmp_path / 'x.tar', 'd' * 90 + '/' + 'e' * 120 + '/f.png'
    content = (image_folder / 'a.png').read_bytes()
    with tarfile.open(path, 'w', format=tarfile.GNU_FORMAT) as archive:

        def add(name, content=content, **fields):
            info = tarfile.TarInfo(name)
            for field, value in fields.items():
                setattr(info, field, value)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))

        add('./a.png', b'old')
        add('a.png')  # the later one counts, as when it is unpacked
        add(long)
        add('n/._a.png', b'\x00\x05\x16\x07rest')
        add('__MACOSX/n/b.png')
        add('n/hard.png', b'', type=tarfile.LNKTYPE, linkname='a.png')
        add('n/soft.png', b'', type=tarfile.SYMTYPE, linkname='../a.png')
        add('n/lost.png', b'', type=tarfile.SYMTYPE, linkname='../none.png')
        add(os.fsdecode(b'n/\xff.png'))
        add('n/0.json', b'{}')
    data = ImageFolder(str(path))
    names = ['a.png', long, 'n/hard.png', 'n/soft.png', os.fsdecode(b'n/\xff.png')]
    assert listed(data) == sorted(names)
    assert {data.image_record(i)['stored'].read() for i in range(len(data))} == {content}


def test_zip_with_methods_that_nobody_can_seek_in(image_folder):
    path = make_zip(image_folder, image_folder.with_suffix('.zip'), zipfile.ZIP_LZMA)
    with pytest.raises(SettingsError, match='packed by method 14: pack it again with zip -0'):
        ImageFolder(str(path))


def test_one_name_in_two_shards(image_folder):
    shards = make_tars(image_folder, image_folder.parent / 'shards')
    make_tar(image_folder, shards / '000009.tar', ['n01/c.png'])
    with pytest.raises(SettingsError, match="'n01/c.png' is both in .*tar and in .*000009.tar.*"):
        ImageFolder(str(shards))
    data = ImageFolder(str(shards), shard_names=True)
    assert len(data) == 7 and '000009/n01/c.png' in listed(data)


# The index.


def settle(path):
    for p in [path] if path.is_file() else path.iterdir():
        os.utime(p, ns=(0, time.time_ns() - 60 * 10**9))


@pytest.fixture
def kept(monkeypatch):
    """Keeps every index, and counts those that are made."""
    monkeypatch.setattr(index, 'WORTH_REMEMBERING', 1)
    made, make = [], Source._of_shards
    monkeypatch.setattr(Source, '_of_shards', lambda self: (made.append(1), make(self))[1])
    return made


def test_the_index_is_made_once_and_anew_when_a_shard_changes(image_folder, kind, kept):
    shards = LOCAL[kind](image_folder)
    settle(shards)
    first = listed(ImageFolder(str(shards)))
    assert listed(ImageFolder(str(shards))) == first and len(kept) == 1
    assert listed(ImageFolder(os.path.relpath(shards))) == first and len(kept) == 1
    changed = shards / '000001.tar' if kind == 'tars' else shards
    os.utime(changed, ns=(0, time.time_ns() - 30 * 10**9))
    assert listed(ImageFolder(str(shards))) == first and len(kept) == 2
    for file in (image_folder.parent / 'cache/plrc_plugin').glob('*.npz'):
        file.write_bytes(file.read_bytes()[:100])  # damaged
    assert listed(ImageFolder(str(shards))) == first and len(kept) == 3


def test_an_index_of_another_data_set_is_not_used(image_folder, kept):
    one = make_tar(image_folder, image_folder.parent / 'one.tar')
    other = make_tar(image_folder, image_folder.parent / 'other.tar', ['a.png', 'b.png'])
    for path in (one, other):
        settle(path)
        ImageFolder(str(path))
    first, second = (Source(str(path))._kept_at() for path in (one, other))
    os.replace(first, second)
    assert listed(ImageFolder(str(other))) == ['a.png', 'b.png']
    assert len(kept) == 3


def test_a_shard_that_changes_after_indexing_stops_the_run(image_folder, kind):
    shards = LOCAL[kind](image_folder)
    data = ImageFolder(str(shards), pipeline=PIPELINE)
    data[SampleKey(0, 0, 0)]
    changed = [shards / f'{n:06}.tar' for n in range(3)] if kind == 'tars' else [shards]
    for path in changed:
        content = path.read_bytes()
        path.write_bytes(content[::-1])
        os.utime(path, ns=(0, 1))
    with pytest.raises(SettingsError, match='has changed since its index was made.*start again'):
        data[SampleKey(0, 0, 1)]
    for path in changed:
        path.unlink()
    with pytest.raises(SettingsError, match='cannot be read.*put it back'):
        data[SampleKey(0, 0, 2)]


def _index_slowly(root, cache_home, barrier, results):
    os.environ['XDG_CACHE_HOME'] = cache_home
    index.WORTH_REMEMBERING = 1
    make = Source._of_shards

    def slow(self):
        results.put('made')
        time.sleep(0.5)
        return make(self)

    Source._of_shards = slow
    barrier.wait()
    results.put(len(ImageFolder(root)))


def test_two_processes_that_want_an_index_make_one(image_folder):
    path = make_tar(image_folder, image_folder.with_suffix('.tar'))
    settle(path)
    fork = multiprocessing.get_context('fork')
    barrier, results = fork.Barrier(3), fork.Queue()
    cache_home = str(image_folder.parent / 'cache')
    children = [
        fork.Process(target=_index_slowly, args=(str(path), cache_home, barrier, results))
        for _ in range(3)
    ]
    for child in children:
        child.start()
    found = [results.get(timeout=60) for _ in range(4)]
    for child in children:
        child.join()
    assert sorted(map(str, found)) == ['6', '6', '6', 'made']


def test_without_a_place_for_the_index_all_works(image_folder, monkeypatch):
    path = make_tar(image_folder, image_folder.with_suffix('.tar'))
    (image_folder.parent / 'cache').write_text('a file')
    assert len(ImageFolder(str(path))) == 6
    assert cache.recall(str(image_folder / 'none.npz'), lambda kept: True) is None


# Tables.


def test_rows_without_names_are_called_by_their_numbers(image_folder, pyarrow):
    from pyarrow import parquet

    path = image_folder.with_suffix('.parquet')
    contents = [(image_folder / name).read_bytes() for name in names_in(image_folder)]
    parquet.write_table(pyarrow.table({'image': contents, 'caption': ['x'] * 6}), path)
    data = ImageFolder(str(path))
    assert listed(data) == [f'images/{row:010}' for row in range(6)]
    assert [data.image_record(i)['stored'].read() for i in range(6)] == contents
    same = [dict(bytes=content, path='0.png') for content in contents]
    parquet.write_table(pyarrow.table({'image': same}), path)
    assert listed(ImageFolder(str(path))) == listed(data)
    parquet.write_table(pyarrow.table({'image': contents, 'id': ['a', 'b'] * 3}), path)
    with pytest.raises(SettingsError, match="2 different names in column 'id'.*leave name_column"):
        ImageFolder(str(path), name_column='id')


def test_columns_are_found_or_named(image_folder, pyarrow):
    from pyarrow import parquet

    path = image_folder.with_suffix('.parquet')
    contents = [(image_folder / name).read_bytes() for name in names_in(image_folder)]
    columns = {'left': contents, 'right': contents[::-1], 'file_name': names_in(image_folder)}
    parquet.write_table(pyarrow.table(columns), path)
    with pytest.raises(SettingsError, match="'left', 'right'.*set image_column"):
        ImageFolder(str(path))
    data = ImageFolder(str(path), image_column='right')
    assert listed(data) == names_in(image_folder)
    assert data.image_record(0)['stored'].read() == contents[-1]
    for settings, message in (
        (dict(image_column='none'), "no column 'none', but .*set image_column"),
        (dict(image_column='left', name_column='none'), "no column 'none'.*set name_column"),
    ):
        with pytest.raises(SettingsError, match=message):
            ImageFolder(str(path), **settings)
    parquet.write_table(pyarrow.table({'label': [1, 2]}), path)
    with pytest.raises(SettingsError, match=r"no column of images; its columns are \['label'\]"):
        ImageFolder(str(path))
    with pytest.raises(SettingsError, match=r'type int64: set image_column to one of bytes'):
        ImageFolder(str(path), image_column='label')


def test_rows_that_name_files_and_rows_without_an_image(image_folder, pyarrow):
    from pyarrow import parquet

    path = image_folder / 'names.parquet'
    rows = [dict(bytes=None, path=name) for name in names_in(image_folder)]
    parquet.write_table(pyarrow.table({'image': rows}), path)
    folder = ImageFolder(str(image_folder), pipeline=PIPELINE)
    assert_equal_samples(folder, ImageFolder(str(path), pipeline=PIPELINE))
    rows = pyarrow.array([None, *rows[1:]], pyarrow.struct({'bytes': 'binary', 'path': 'string'}))
    parquet.write_table(pyarrow.table({'image': rows}), path)
    data = ImageFolder(str(path), pipeline=PIPELINE)
    ((where, reason),) = data[SampleKey(0, 0, 0)]['skipped'][:1]
    assert where == f'{path}: names/0000000000' and 'holds no image' in reason


def test_folders_that_hugging_face_saves_and_caches(image_folder, pyarrow):
    table = table_of(image_folder)
    saved = image_folder.parent / 'saved/train'
    saved.mkdir(parents=True)
    for number, rows in enumerate((table[:2], table[2:])):
        name = saved / f'data-{number:05}-of-00002.arrow'
        file = pyarrow.OSFile(str(name), 'wb')
        with file, pyarrow.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(rows)
    files = [dict(filename=p.name) for p in sorted(saved.glob('*.arrow'))]
    make_arrow(image_folder, saved / 'cache-123.arrow')  # a result of map
    cached = ImageFolder(str(saved))
    (saved / 'state.json').write_text(json.dumps(dict(_data_files=files)))
    data = ImageFolder(str(saved), pipeline=PIPELINE)
    assert listed(data) == listed(cached) == names_in(image_folder)
    (saved.parent / 'dataset_dict.json').write_text(json.dumps(dict(splits=['train'])))
    with pytest.raises(SettingsError, match=r"splits \['train'\]: name the folder of one"):
        ImageFolder(str(saved.parent))
    (saved / files[1]['filename']).unlink()
    with pytest.raises(SettingsError, match='state.json names data-00001-of-00002.arrow'):
        ImageFolder(str(saved))


def test_what_datasets_itself_saves(image_folder, pyarrow):
    datasets = pytest.importorskip('datasets', reason='no datasets: pip install datasets')
    made = datasets.load_dataset('imagefolder', data_dir=str(image_folder), split='train')
    made.save_to_disk(str(image_folder.parent / 'saved'))
    made.to_parquet(str(image_folder.parent / 'made.parquet'))
    for root in ('saved', 'made.parquet'):
        data = ImageFolder(str(image_folder.parent / root))
        assert sorted(data.image_record(i)['stored'].read() for i in range(len(data))) == sorted(
            (image_folder / name).read_bytes() for name in names_in(image_folder)
        )


def test_splits_in_one_folder_are_told(image_folder, pyarrow, monkeypatch):
    told = []
    monkeypatch.setattr(places, 'print_log', lambda text, *_: told.append(text))
    folder = image_folder.parent / 'data'
    folder.mkdir()
    make_parquet(image_folder / 'n01', folder / 'train-00000-of-00001.parquet')
    make_parquet(image_folder / 'n02', folder / 'test-00000-of-00001.parquet')
    assert len(ImageFolder(str(folder))) == 3
    assert 'splits test, train, and all of them are read' in told[0]
    assert len(ImageFolder(f'{folder}/train*')) == 2


def test_what_is_no_shard_at_all(image_folder, pyarrow):
    for suffix in ('.zip', '.parquet', '.arrow', '.tar'):
        path = image_folder.parent / f'x{suffix}'
        for content in (b'', b'<html>404</html>', os.urandom(3000)):
            path.write_bytes(content)
            with pytest.raises(SettingsError, match=f'x{suffix} cannot be used') as caught:
                ImageFolder(str(path))
            assert '\n' not in str(caught.value)
        path.unlink()
        with pytest.raises(SettingsError, match=f'x{suffix}.*cannot be read.*No such file'):
            ImageFolder(str(path))
    make_tars(image_folder, image_folder.parent / 'mixed')
    make_zip(image_folder, image_folder.parent / 'mixed/x.zip')
    with pytest.raises(SettingsError, match='several kinds.*by a pattern'):
        ImageFolder(str(image_folder.parent / 'mixed'))
    with pytest.raises(SettingsError, match='has no columns: leave image_column'):
        ImageFolder(f'{image_folder.parent}/mixed/*.tar', image_column='image')


def test_a_missing_library_is_named_with_its_extra(image_folder, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'pyarrow', None)
    path = image_folder / 'x.parquet'
    path.write_bytes(b'')
    with pytest.raises(SettingsError, match=r"pip install 'plrc_plugin\[parquet\]'"):
        ImageFolder(str(path))


def test_large_and_deep_images_in_shards(image_folder):
    Image.fromarray(np.arange(60 * 70, dtype=np.uint16).reshape(60, 70)).save(
        image_folder / 'x.png'
    )
    Image.fromarray(np.arange(60 * 70, dtype=np.uint16).reshape(60, 70)).save(
        image_folder / 'x.tif'
    )
    path = make_tar(image_folder, image_folder.with_suffix('.tar'))
    pipeline = [dict(type='plrc_plugin.TwoViews', size=32, window=(0, 4200)), PIPELINE[1]]
    assert_equal_samples(
        ImageFolder(str(image_folder), pipeline=pipeline),
        ImageFolder(str(path), pipeline=pipeline),
    )
