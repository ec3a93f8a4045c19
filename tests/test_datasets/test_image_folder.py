"""Folders of images, keys and batches."""

import os
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from plrc_plugin.datasets.collate import collate_views
from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.datasets.samplers import KeyedSampler
from plrc_plugin.errors import SettingsError
from plrc_plugin.randomness import SampleKey

PIPELINE = [
    dict(type='plrc_plugin.TwoViews', size=32),
    dict(type='plrc_plugin.SampleRegionPoints', num_regions=3, points_per_region=2, resolution=14),
]


def test_flat_and_nested_sorted_by_relative_path(image_folder):
    (image_folder / 'notes.txt').write_text('no image')
    dataset = ImageFolder(str(image_folder))
    assert [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))] == [
        'a.png',
        'b.png',
        'f.PNG',
        'n01/c.png',
        'n01/d.png',
        'n02/deep/e.png',
    ]


def test_links_are_followed_and_loops_end(image_folder, tmp_path):
    os.symlink(image_folder / 'n01', tmp_path / 'linked')
    os.symlink(tmp_path / 'linked', image_folder / 'again')
    os.symlink(image_folder, image_folder / 'n02' / 'loop')
    names = [
        r['img_path'] for r in (ImageFolder(str(image_folder)).get_data_info(i) for i in range(8))
    ]
    assert names.count('again/c.png') == 1 and not any('loop' in name for name in names)


@pytest.mark.parametrize(
    'make, message',
    [
        (lambda p: p / 'none', 'does not exist'),
        (lambda p: p / 'a.txt', 'is not a folder'),
        (lambda p: p / 'empty', 'holds no image'),
    ],
)
def test_bad_roots_name_the_setting_and_the_remedy(tmp_path, make, message):
    (tmp_path / 'a.txt').write_text('')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(SettingsError, match=f'data_root=.*{message}.*data_root=<folder>'):
        ImageFolder(str(make(tmp_path)))


def test_unreadable_root(tmp_path, monkeypatch):
    def deny(path):
        raise PermissionError(13, 'Permission denied', path)

    monkeypatch.setattr(os, 'scandir', deny)  # chmod would not stop root, who may run the tests
    with pytest.raises(SettingsError, match='cannot be read.*Permission denied.*permissions'):
        ImageFolder(str(tmp_path))


def test_undecodable_images_are_replaced_and_named(image_folder):
    (image_folder / 'a.png').write_bytes(b'')
    dataset = ImageFolder(str(image_folder), pipeline=PIPELINE)
    sample = dataset[SampleKey(0, 0, 0)]
    assert len(sample['skipped']) >= 1
    path, reason = sample['skipped'][0]
    assert path == str(image_folder / 'a.png') and 'not an image' in reason
    assert sample['img_path'] != path and len(sample['views']) == 2
    assert np.array_equal(dataset[SampleKey(0, 0, 0)]['views'][0].pixels, sample['views'][0].pixels)
    batch = collate_views([dataset[SampleKey(0, 0, i)] for i in range(4)])
    assert len(batch['paths']) == 4 and (path, reason) in batch['skipped']


def test_only_undecodable_images_is_an_error(image_folder):
    for path in image_folder.rglob('*.[pP]*'):
        path.write_bytes(b'x')
    with pytest.raises(RuntimeError, match='in a row could not be decoded'):
        ImageFolder(str(image_folder), pipeline=PIPELINE)[SampleKey(0, 0, 0)]


def loader(folder, workers, epoch=0):
    dataset = ImageFolder(str(folder), pipeline=PIPELINE)
    sampler = KeyedSampler(dataset, seed=5)
    sampler.set_epoch(epoch)
    return DataLoader(dataset, 2, sampler=sampler, num_workers=workers, collate_fn=collate_views)


@pytest.mark.parametrize('photometric', ['loader', 'device'])
def test_batches_do_not_depend_on_workers_and_epochs_differ(image_folder, photometric, monkeypatch):
    monkeypatch.setitem(PIPELINE[0], 'photometric', photometric)
    one, two = list(loader(image_folder, 0)), list(loader(image_folder, 2))
    for a, b in zip(one, two):
        assert a['paths'] == b['paths']
        for name in ('query', 'key'):
            for field, shape in dict(
                pixels=(2, 32, 32, 3), affine=(2, 2, 3), regions=(2, 6), points=(2, 6, 2)
            ).items():
                assert a[name][field].shape == shape
                assert torch.equal(a[name][field], b[name][field])
            left = a[name].augmentation, b[name].augmentation
            assert (left[0] is not None) == (photometric == 'device')
            for numbers in zip(*(each.coefficients for each in left if each)):
                assert torch.equal(*numbers)
    pixels = {}
    for epoch in range(2):
        for batch in loader(image_folder, 0, epoch):
            for path, view in zip(batch['paths'], batch['query']['pixels']):
                pixels.setdefault(path, []).append(view)
    assert len(pixels) == 6
    assert not any(torch.equal(*views) for views in pixels.values())


def test_an_index_serves_for_looking_only(image_folder):
    sample = ImageFolder(str(image_folder), pipeline=PIPELINE, test_mode=True)[2]
    assert sample['sample_key'] == SampleKey(0, 0, 2)
    with pytest.raises(SettingsError, match='every epoch would show the same views'):
        ImageFolder(str(image_folder), pipeline=PIPELINE)[2]


def test_errors_survive_the_way_from_a_worker():
    from plrc_plugin.images.decoding import DecodingError

    error = pickle.loads(pickle.dumps(DecodingError('a.jpg', ValueError('odd'))))
    assert error.path == 'a.jpg' and error.reason == 'ValueError: odd'
