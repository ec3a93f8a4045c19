"""Several data sets by weights, and the images of other libraries' data sets."""

import json
from collections import Counter

import numpy as np
import pytest
from mmengine.config import Config
from shards import make_tar

from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.datasets.images_of import ImagesOf
from plrc_plugin.datasets.keyed_loader import keyed_loader
from plrc_plugin.datasets.unread_images import UnreadImages
from plrc_plugin.datasets.weighted import WeightedConcatDataset
from plrc_plugin.errors import SettingsError
from plrc_plugin.randomness import SampleKey
from plrc_plugin.registry import DATASETS
from plrc_plugin.visualization.images import read_images, training_images

VIEWS = [dict(type='plrc_plugin.TwoViews', size=16)]


def folder_of(path, **settings):
    return dict(type='plrc_plugin.ImageFolder', data_root=str(path), pipeline=VIEWS, **settings)


def names(dataset, epoch):
    return [dataset[SampleKey(0, epoch, i)]['name'] for i in range(len(dataset))]


def test_weights_give_shares_and_all_images_come_over_the_epochs(image_folder):
    tar = make_tar(image_folder / 'n01', image_folder.parent / 'n01.tar')
    repeated = dict(type='RepeatDataset', dataset=folder_of(tar), times=1)
    data = WeightedConcatDataset([folder_of(image_folder), repeated], [1, 3], length=12)
    assert len(data) == 12
    seen = Counter()
    for epoch in range(4):
        found = names(data, epoch)
        assert found[3:] == [('c.png', 'd.png')[(epoch * 9 + i) % 2] for i in range(9)]
        seen.update(found[:3])
    assert seen == dict.fromkeys(names(ImageFolder(**_bare(folder_of(image_folder))), 0), 2)
    # One image that comes twice in an epoch has other views, and the same ones when asked again.
    first, again, other = (data[SampleKey(0, 0, i)]['views'][0].pixels for i in (3, 3, 5))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert len(WeightedConcatDataset([folder_of(image_folder)] * 2, [1, 1])) == 12


def _bare(config):
    return {name: value for name, value in config.items() if name != 'type'}


@pytest.mark.parametrize(
    'weights, length, message',
    [
        ([1], None, '1 weights for 2 datasets'),
        ([1, 0], None, 'weights must be positive'),
        ([1, 10**6], None, 'leave a data set without a sample among 12'),
        ([1, 1], 0, 'length must be a positive integer'),
    ],
)
def test_weights_that_cannot_work(image_folder, weights, length, message):
    with pytest.raises(SettingsError, match=message):
        WeightedConcatDataset([folder_of(image_folder)] * 2, weights, length)


def test_a_weighted_data_set_is_known_to_loaders_and_needs_keys(image_folder):
    config = dict(
        type='plrc_plugin.WeightedConcatDataset',
        datasets=[folder_of(image_folder)] * 2,
        weights=[1, 2],
    )
    loader = keyed_loader(dict(dataset=config, sampler=dict(type='DefaultSampler')))
    assert loader['dataset'] == config
    assert 'KeyedSampler' in str(loader['sampler']['type'])
    with pytest.raises(SettingsError, match='without seed and epoch'):
        DATASETS.build(config)[0]
    assert len(UnreadImages(config)) == 12
    assert {'img_path', 'name'} <= UnreadImages(config)[7].keys()


def _coco_json(folder):
    images = [
        dict(id=i, file_name=name, width=120, height=90)
        for i, name in enumerate(['n01/d.png', 'a.png', 'b.png'])
    ]
    boxes = [
        dict(id=i, image_id=i, category_id=1, bbox=[1, 1, 30, 30], area=900, iscrowd=0)
        for i in range(2)
    ]
    path = folder.parent / 'instances.json'
    path.write_text(
        json.dumps(dict(images=images, annotations=boxes, categories=[dict(id=1, name='thing')]))
    )
    return path


def test_the_images_of_an_mmdet_data_set(image_folder):
    pytest.importorskip('mmdet', reason='no mmdet')
    source = dict(
        type='mmdet.CocoDataset',
        data_root=str(image_folder.parent),
        ann_file=_coco_json(image_folder).name,
        data_prefix=dict(img='images/'),
        metainfo=dict(classes=('thing',)),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=[dict(type='mmdet.LoadAnnotations')],
    )
    data = ImagesOf(source, pipeline=VIEWS)
    assert names(data, 0) == ['n01/d.png', 'a.png']  # b.png has no object
    assert data[SampleKey(0, 0, 1)]['img_path'] == str(image_folder / 'a.png')
    joined = dict(type='ConcatDataset', datasets=[source, source])
    assert names(ImagesOf(joined, pipeline=VIEWS), 0) == ['n01/d.png', 'a.png'] * 2


def test_the_images_of_an_mmseg_data_set(image_folder):
    pytest.importorskip('mmseg', reason='no mmseg')
    source = dict(
        type='mmseg.BaseSegDataset',
        data_root=str(image_folder),
        data_prefix=dict(img_path='n01'),
        img_suffix='.png',
        metainfo=dict(classes=('thing',)),
    )
    assert sorted(names(ImagesOf(source, pipeline=VIEWS), 0)) == ['c.png', 'd.png']
    only = ImagesOf(source, pipeline=VIEWS, exclude='c.*')
    assert names(only, 0) == ['d.png']


def test_sources_that_cannot_be_used(image_folder):
    for source, message in (
        ('photos', 'source must be the config of a data set'),
        (dict(type='plrc_plugin.NoSuchDataset'), 'cannot be used.*img_path'),
    ):
        with pytest.raises(SettingsError, match=message) as caught:
            ImagesOf(source, pipeline=VIEWS)
        assert '\n' not in str(caught.value)
    with pytest.raises(SettingsError, match='data_root belongs to the data set: move it'):
        ImagesOf(folder_of(image_folder), data_root='x')


def test_pages_of_a_run_find_its_images_by_prefix_in_shards_and_joined(image_folder):
    tar = make_tar(image_folder, image_folder.parent / 'images.tar')
    parts = [
        folder_of(image_folder.parent, data_prefix='images/n01'),
        folder_of(tar),
        dict(type='ConcatDataset', datasets=[folder_of(tar), folder_of(image_folder / 'n01')]),
    ]
    for part in parts:
        cfg = Config(dict(train_dataloader=dict(dataset=part)))
        images = [image for _, image in training_images(cfg, 4)]
        assert len(images) == min(4, len(UnreadImages(part)))
        assert all(image.shape == (90, 120, 3) for image in images)
    gone = Config(dict(train_dataloader=dict(dataset=folder_of(image_folder / 'gone'))))
    assert training_images(gone, 4) == []
    shown = read_images(f'{tar}/n01', 5)
    assert [name for name, _ in shown] == ['c.png', 'd.png']
