"""The remembered list of images."""

import os

import numpy as np
import pytest

from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.images import file_index
from plrc_plugin.images.file_index import image_index


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Empty files, last changed a minute ago, and a cache of its own that keeps any list."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(file_index, 'WORTH_REMEMBERING', 1)
    root = tmp_path / 'images'
    for name in ('b.jpg', 'n1/é.png', 'n1/a b.jpg', 'n2/z.webp', os.fsdecode(b'n2/\xff.jpg')):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    settle(root)
    return root


def settle(root):
    for path in [root, *root.rglob('*/')]:
        os.utime(path, ns=(0, os.stat(path).st_mtime_ns - 60 * 10**9))


def names(index):
    starts = [0, *index.ends[:-1]]
    return [os.fsdecode(index.names[a:b].tobytes()) for a, b in zip(starts, index.ends)]


def count_listings(monkeypatch):
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, 'scandir', lambda path: (listed.append(path), scandir(path))[1])
    return listed


def test_second_run_lists_no_folder(folder, monkeypatch):
    first = image_index(str(folder))
    assert names(first) == sorted(str(p.relative_to(folder)) for p in folder.rglob('*.*'))
    listed = count_listings(monkeypatch)
    second = image_index(str(folder))
    assert not listed
    assert all(np.array_equal(a, b) for a, b in zip(first, second))
    assert os.listdir(folder.parent / 'cache/plrc_plugin') == [
        name for name in os.listdir(folder.parent / 'cache/plrc_plugin') if name.endswith('.npz')
    ]


@pytest.mark.parametrize(
    'change',
    [
        lambda root: (root / 'n1/new.jpg').touch(),
        lambda root: (root / 'n2/z.webp').unlink(),
        lambda root: (root / 'b.jpg').rename(root / 'c.jpg'),
        lambda root: (root / 'n1').rename(root / 'n3'),
        lambda root: os.symlink(root / 'n1', root / 'linked'),
    ],
)
def test_every_change_of_a_folder_is_seen(folder, change):
    image_index(str(folder))
    change(folder)
    expected = {str(p.relative_to(folder)) for p in folder.rglob('*.*')}
    if (folder / 'linked').exists():
        expected |= {f'linked/{p.name}' for p in (folder / 'n1').iterdir()}
    assert names(image_index(str(folder))) == sorted(expected)


def test_folders_that_still_change_are_not_remembered(folder, monkeypatch):
    (folder / 'just_now.jpg').touch()
    image_index(str(folder))
    listed = count_listings(monkeypatch)
    assert 'just_now.jpg' in names(image_index(str(folder))) and listed


def test_damaged_and_unwritable_caches_only_cost_time(folder, monkeypatch):
    expected = names(image_index(str(folder)))
    (kept,) = (folder.parent / 'cache/plrc_plugin').iterdir()
    for content in (b'', b'PK', kept.read_bytes()[:-50]):
        kept.write_bytes(content)
        assert names(image_index(str(folder))) == expected
    monkeypatch.setenv('XDG_CACHE_HOME', str(folder / 'b.jpg'))
    assert names(image_index(str(folder))) == expected


def test_excluded_names_have_a_list_of_their_own(folder):
    everything = names(image_index(str(folder)))
    assert names(image_index(str(folder), '*.png')) == [n for n in everything if n[-3:] != 'png']
    assert names(image_index(str(folder))) == everything


def test_data_set_of_names_and_its_subsets(folder):
    dataset = ImageFolder(str(folder))
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    assert paths == names(image_index(str(folder)))
    assert dataset.get_data_info(-1) == dict(img_path=paths[-1], sample_idx=4)
    with pytest.raises(IndexError):
        dataset.get_data_info(5)
    assert [dataset.get_subset([3, 1]).get_data_info(i)['img_path'] for i in range(2)] == [
        paths[3],
        paths[1],
    ]
    assert len(ImageFolder(str(folder), indices=2)) == 2
    assert ImageFolder(str(folder), lazy_init=True).get_data_info(1)['img_path'] == paths[1]


LEFT_BESIDE = [
    '._b.jpg',
    'n1/._a b.jpg',
    '__MACOSX/n1/._a b.jpg',
    '__MACOSX/whole.jpg',
    'n1/@eaDir/a b.jpg/SYNOPHOTO_THUMB_XL.jpg',
    '.recycle/a.jpg',
    'n1/~snapshot/hourly/a.jpg',
    'n1/.picasaoriginals/a.jpg',
    'Lightroom Previews.lrdata/0/a.jpg',
    'run/20260101_120000/vis_data/vis_image/affinity_0.png',
    'n1/.@__thumb/default.jpg',
    '#recycle/old.jpg',
    '@Recycle/old.jpg',
    '.Trash-1000/files/old.jpg',
    '.Trashes/501/old.jpg',
    '$RECYCLE.BIN/S-1-5/$R1.jpg',
    'System Volume Information/x.jpg',
    '.ipynb_checkpoints/b-checkpoint.jpg',
    'lost+found/x.jpg',
    '.git/annex/x.jpg',
    '.thumbnails/normal/x.png',
    '.AppleDouble/b.jpg',
    '.stversions/b~20240101.jpg',
    '.trashed-1700000000-b.jpg',
    '.pending-1700000000-b.jpg',
    '~$b.jpg',
    '.DS_Store',
    'Thumbs.db',
    'Icon\r',
    'b.jpg.part',
    'b.jpg.crdownload',
]
ONLY_SIMILAR = [
    'thumbnails/a.jpg',
    'recycle/a.jpg',
    'git/a.jpg',
    '_MACOSX/a.jpg',
    'eaDir/a.jpg',
    '.photos/a.jpg',
    '.Trash-can-pictures/a.jpg',
    'lost/found.jpg',
    '._a_real_photograph.jpg',
    '__x__/._.jpg',
    '_b.jpg',
    '.hidden.jpg',
    '$b.jpg',
    '~b.jpg',
    'tmp/a.jpg',
]


def test_companions_of_systems_are_no_images_and_are_counted_once(folder, monkeypatch):
    expected = names(image_index(str(folder)))
    for name in LEFT_BESIDE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b'\0\5\x16\7\0\2\0\0Mac OS X')
    for name in ONLY_SIMILAR:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b'\xff\xd8\xff\xe0')
    settle(folder)
    said = []
    monkeypatch.setattr(file_index, 'print_log', lambda message, *_: said.append(message))
    found = names(image_index(str(folder)))
    assert set(found) == {*expected, *ONLY_SIMILAR}
    assert len(said) == 1 and "1 folders '@eaDir'" in said[0] and '2 ._* files' in said[0]
    listed = count_listings(monkeypatch)
    assert names(image_index(str(folder))) == found and not listed
    assert said[0] == said[1]  # in the next run, too


def test_lists_of_before_companions_were_known_are_not_used(folder, monkeypatch):
    monkeypatch.setattr(file_index, 'RULES', 'none')
    monkeypatch.setattr(file_index, 'is_companion_file', lambda *_: False)
    (folder / '._b.jpg').write_bytes(b'\0\5\x16\7')
    settle(folder)
    assert '._b.jpg' in names(image_index(str(folder)))
    monkeypatch.undo()
    monkeypatch.setenv('XDG_CACHE_HOME', str(folder.parent / 'cache'))
    monkeypatch.setattr(file_index, 'WORTH_REMEMBERING', 1)
    assert '._b.jpg' not in names(image_index(str(folder)))
