"""Settings that data sets inherit: honoured, or refused in one line."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.errors import SettingsError
from plrc_plugin.images.decoding import DecodingError
from plrc_plugin.images.file_list import listed_images

PIPELINE = [dict(type='plrc_plugin.TwoViews', size=16)]


@pytest.fixture
def root(tmp_path):
    """Two folders and lists of one of them."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for name in ('train/a b.jpg', 'train/n01/c.JPG', 'train/é,1.png', 'test/d.jpg', 'test/e.jpg'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path


def names(dataset):
    return [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]


TRAIN = ['a b.jpg', 'n01/c.JPG', 'é,1.png']


@pytest.mark.parametrize('prefix', ['train', 'train/', dict(img_path='train'), dict(img='train/')])
def test_prefix_is_the_folder_of_the_images(prefix, root):
    dataset = ImageFolder(str(root), data_prefix=prefix, pipeline=PIPELINE)
    assert names(dataset) == TRAIN
    sample = dataset.look(0)
    assert os.path.samefile(sample['img_path'], root / 'train/a b.jpg')
    assert os.path.samefile(sample['data_root'], root / 'train')
    assert len(ImageFolder(str(root))) == 5


LISTS = {
    'plain.txt': '\n'.join(TRAIN),
    'windows.txt': '\ufeff' + '\r\n'.join(TRAIN).replace('/', '\\') + '\r\n\r\n',
    'labels.txt': '\n'.join(f'{name} {i}' for i, name in enumerate(TRAIN)),
    'several_labels.txt': '\n'.join(f'{name}\t3,7' for name in TRAIN),
    'commas.txt': '\n'.join(f'{name},cat' for name in TRAIN),
    'table.csv': 'label,file_name\n' + '\n'.join(f'1,"{name}"' for name in TRAIN),
    'semicolons.csv': 'label;file_name\n' + '\n'.join(f'1;"{name}"' for name in TRAIN),
    'table.tsv': 'path\tlabel\n' + '\n'.join(f'{name}\t1' for name in TRAIN),
    'lines.jsonl': '\n'.join(json.dumps(dict(path=name)) for name in TRAIN),
    'mmengine.json': json.dumps(
        dict(metainfo={}, data_list=[dict(img_path=name, gt_label=1) for name in TRAIN])
    ),
    'coco.json': json.dumps(dict(images=[dict(id=i, file_name=n) for i, n in enumerate(TRAIN)])),
    'list.json': json.dumps(TRAIN),
}


@pytest.mark.parametrize('name', LISTS)
@pytest.mark.parametrize('relative_to', ['prefix', 'root'])
def test_lists_as_people_write_them(name, relative_to, root):
    text = LISTS[name]
    if relative_to == 'root':
        for image in TRAIN:
            for written in {image, image.replace('/', '\\'), json.dumps(image)[1:-1]}:
                text = text.replace(written, f'train/{written}')
                text = text.replace('train/train/', 'train/')
    (root / 'meta').mkdir()
    (root / 'meta' / name).write_text(text, encoding='utf-8', newline='')
    dataset = ImageFolder(
        str(root), ann_file=f'meta/{name}', data_prefix=dict(img_path='train'), pipeline=PIPELINE
    )
    paths = [dataset.look(i)['img_path'] for i in range(len(dataset))]
    assert [os.path.relpath(path, root / 'train') for path in paths] == TRAIN


def test_lists_without_a_prefix_in_their_order_and_with_repetitions(root):
    (root / 'some.txt').write_text('test/e.jpg 1\ntrain/a b.jpg 0\ntest/e.jpg 1\n')
    dataset = ImageFolder(str(root), ann_file='some.txt')
    assert names(dataset) == ['test/e.jpg', 'train/a b.jpg', 'test/e.jpg']
    assert names(ImageFolder(str(root), ann_file='some.txt', exclude='e.*')) == ['train/a b.jpg']
    assert names(ImageFolder(str(root), ann_file=str(root / 'some.txt'), indices=[-1])) == [
        'test/e.jpg'
    ]


def test_a_table_of_a_spreadsheet_in_utf_16(root):
    (root / 'some.csv').write_text('label\tfile_name\n1\ttrain/é,1.png\n', encoding='utf-16')
    assert names(ImageFolder(str(root), ann_file='some.csv')) == ['train/é,1.png']


def test_lvis_names_images_by_their_address(tmp_path):
    address = 'http://images.cocodataset.org/val2017/000000397133.jpg'
    (tmp_path / 'lvis.json').write_text(json.dumps(dict(images=[dict(id=1, coco_url=address)])))
    assert listed_images(str(tmp_path / 'lvis.json')) == ['val2017/000000397133.jpg']


@pytest.mark.parametrize(
    'text, name, message',
    [
        ('', 'a.txt', 'names no image'),
        ('2007_000027\n', 'a.txt', "line 1, '2007_000027', names no image with one of"),
        ('elsewhere/x.jpg 0\n', 'a.txt', 'neither below .* nor below .*: set data_prefix'),
        ('a,b\n1,2\n', 'a.csv', r"has the columns \['a', 'b'\].*img_path"),
        ('{"annotations": []}', 'a.json', "neither mmengine's 'data_list' nor COCO's 'images'"),
        ('{"images": [{"id": 3}]}', 'a.json', 'image 1 names no image'),
        ('[[3]]', 'a.json', 'cannot be read as a list of images'),
        ('"a.jpg"\n{nothing', 'a.jsonl', 'cannot be read as a list of images: line 2: '),
    ],
)
def test_other_lists_are_refused(text, name, message, root):
    (root / name).write_text(text)
    with pytest.raises(SettingsError, match=message) as error:
        ImageFolder(str(root), ann_file=name)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(ann_file='none.txt'), "ann_file='.*none.txt' cannot be read"),
        (dict(data_prefix='none'), "data_root='.*none' does not exist"),
        (dict(data_prefix=dict(seg_map_path='masks')), 'must have img_path only'),
        (dict(data_prefix=dict(img_path='train', seg_map_path='masks')), 'must have img_path only'),
        (dict(data_prefix=3), 'data_prefix must be a folder'),
        (dict(filter_cfg=dict(filter_empty_gt=True)), 'filter_cfg=.*use ann_file'),
        (dict(serialize_data=False), 'serialize_data=False'),
        (dict(indices=0), 'indices must be'),
        (dict(indices=6), 'indices reach beyond the 5 images'),
        (dict(indices=[1, 5]), 'indices reach beyond the 5 images'),
        (dict(indices='3'), 'indices must be'),
        (dict(indices=[]), 'indices must be'),
        (dict(max_refetch=0), 'max_refetch must be a positive integer'),
    ],
)
def test_settings_that_cannot_work(settings, message, root):
    with pytest.raises(SettingsError, match=message) as error:
        ImageFolder(str(root), **settings)
    assert '\n' not in str(error.value)


def test_settings_that_are_honoured(root):
    assert len(ImageFolder(str(root), indices=2)) == 2
    assert len(ImageFolder(str(root), indices=5)) == 5
    assert names(ImageFolder(str(root), indices=-2)) == ['train/n01/c.JPG', 'train/é,1.png']
    assert names(ImageFolder(str(root), indices=-5)) == names(ImageFolder(str(root)))
    assert len(ImageFolder(str(root), exclude=['*.png', 'd.*'])) == 3
    assert ImageFolder(str(root), metainfo=dict(classes=('x',))).metainfo['classes'] == ('x',)
    (root / 'train/a b.jpg').write_bytes(b'')
    with pytest.raises(DecodingError):
        ImageFolder(str(root), data_prefix='train', pipeline=PIPELINE, test_mode=True)[0]
    for path in (root / 'train').rglob('*.*'):
        path.write_bytes(b'')
    with pytest.raises(RuntimeError, match='^3 images in a row'):
        ImageFolder(str(root), data_prefix='train', pipeline=PIPELINE, max_refetch=2).look(0)
