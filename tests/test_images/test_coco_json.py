"""Jsons as the tools of annotators write them: right, or one line that says what is missing."""

import json

import numpy as np
import pytest
from PIL import Image

from plrc_plugin.datasets.masked_images import COCOMasks
from plrc_plugin.errors import SettingsError
from plrc_plugin.images.coco_json import read_coco
from plrc_plugin.regions.coco import CocoRegions

SQUARE = [10.0, 5.0, 30.0, 5.0, 30.0, 25.0, 10.0, 25.0]  # x from 10 to 30, y from 5 to 25


def write(tmp_path, images=None, annotations=None, categories=None):
    content = dict(
        images=images or [dict(id=1, file_name='a.png', width=60, height=40)],
        annotations=annotations or [annotation()],
        categories=categories or [dict(id=3, name='cup')],
    )
    (tmp_path / 'a.json').write_text(json.dumps(content))
    if not (tmp_path / 'a.png').exists():
        Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / 'a.png')
    return tmp_path / 'a.json'


def annotation(**more):
    known = dict(id=1, image_id=1, category_id=3, segmentation=[SQUARE], bbox=[10, 5, 20, 20])
    return {name: value for name, value in {**known, **more}.items() if value != 'gone'}


def square():
    mask = np.zeros((40, 60), bool)
    mask[5:25, 10:30] = True
    return mask


def both(path, name='a.png', size=(60, 40), **kwargs):
    """The object's mask by the probe's data set and by the region source."""
    masked = COCOMasks(path, path.parent)[0]
    record = dict(
        name=name, size=size, data_root=str(path.parent), img_path=str(path.parent / name)
    )
    return masked.instances == 1, CocoRegions(str(path), **kwargs)(record) == 0


@pytest.mark.parametrize(
    'images, annotations',
    [
        (None, [annotation()]),
        (None, [annotation(image_id=1.0, category_id=3.0)]),
        (None, [annotation(image_id='1', category_id='3')]),
        ([dict(id='1', file_name='a.png', width=60, height=40)], None),
        ([dict(id=1, file_name='a.png')], None),  # no size
        ([dict(id=1, file_name='a.png', width=None, height=None)], None),
        ([dict(id=1, coco_url='http://x.org/train2017/a.png', width=60, height=40)], None),  # LVIS
        ([dict(id=1, file_name='images/v1/patch0/a.png', width=60, height=40)], None),  # Objects365
        ([dict(id=1, file_name='images\\v1\\a.png', width=60, height=40)], None),  # Windows
        ([dict(id=1, file_name='/upload/a.png', width=60.0, height=40.0)], None),
        (None, [annotation(segmentation=SQUARE)]),  # a polygon without its list
        (None, [annotation(segmentation=[SQUARE, []])]),
        (None, [annotation(iscrowd=0)]),
        (None, [annotation(iscrowd=False)]),
        (None, [annotation(iscrowd='0')]),
        (None, [annotation(bbox='gone', area='gone')]),
    ],
)
def test_one_object_in_many_spellings(images, annotations, tmp_path):
    for mask in both(write(tmp_path, images, annotations)):
        assert np.array_equal(mask, square())


def test_run_lengths(tmp_path):
    counts, flat = [], np.concatenate([[0], square().T.ravel(), [2]])
    changes = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], changes])).tolist()
    path = write(tmp_path, None, [annotation(segmentation=dict(size=[40, 60], counts=counts))])
    for mask in both(path):
        assert np.array_equal(mask, square())


@pytest.mark.parametrize('segmentation', ['gone', [], [[]], None])
def test_boxes_alone_are_no_background(segmentation, tmp_path):
    path = write(tmp_path, None, [annotation(segmentation=segmentation)])
    with pytest.raises(SettingsError, match='COCOMasks: the objects of .* have boxes and no masks'):
        COCOMasks(path, tmp_path)
    with pytest.raises(SettingsError, match="kind='mask', .* have no masks: set kind='box'"):
        CocoRegions(str(path))
    record = dict(name='a.png', size=(60, 40), data_root=str(tmp_path), img_path='a.png')
    assert np.array_equal(CocoRegions(str(path), kind='box')(record) == 0, square())


def test_an_object_without_a_mask_beside_others_is_void(tmp_path):
    objects = [annotation(), annotation(id=2, segmentation=[], bbox=[40, 30, 10, 5])]
    item = COCOMasks(write(tmp_path, None, objects), tmp_path)[0]
    assert (item.semantic[30:35, 40:50] == -1).all() and (item.instances[30:35, 40:50] == -1).all()
    assert (item.semantic == 1).sum() == 400


def test_more_than_255_categories_and_an_id_of_0(tmp_path):
    """LVIS has 1,203; Roboflow begins with a root of id 0 that no object has."""
    categories = [dict(id=i, name=f'c{i}', supercategory='none') for i in range(400)]
    objects = [
        annotation(category_id=399),
        annotation(id=2, category_id=0, segmentation=[[40, 30, 50, 30, 50, 35, 40, 35]]),
        annotation(id=3, category_id=254, segmentation=[[0, 0, 5, 0, 5, 5, 0, 5]]),
    ]
    data = COCOMasks(write(tmp_path, None, objects, categories), tmp_path)
    semantic = data[0].semantic
    assert len(data.classes) == 401 and data.classes[400] == 'c399'
    assert (semantic[15, 20], semantic[32, 45], semantic[2, 2]) == (400, 1, 255)
    assert (semantic >= 0).all()


def test_a_category_that_is_not_there(tmp_path):
    path = write(tmp_path, None, [annotation(category_id=9)])
    with pytest.raises(SettingsError, match='objects of category_id 9, but no such category'):
        COCOMasks(path, tmp_path)


@pytest.mark.parametrize('orientation', [5, 6, 7, 8])
@pytest.mark.parametrize('annotated', ['stored', 'upright'])
def test_photographs_that_exif_turns(orientation, annotated, tmp_path):
    """The stored pixels show where the object is: bright; the annotations may be of either."""
    from plrc_plugin.images.orientation import upright

    stored = np.repeat(square()[..., None] * np.uint8(255), 3, 2)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / 'a.png', exif=exif)
    seen = upright(square(), orientation)
    y, x = np.argwhere(seen if annotated == 'upright' else square()).min(0).tolist()
    polygon = [x, y, x + 20, y, x + 20, y + 20, x, y + 20]
    height, width = (seen if annotated == 'upright' else square()).shape
    path = write(
        tmp_path,
        [dict(id=1, file_name='a.png', width=width, height=height)],
        [annotation(segmentation=[polygon], bbox=[x, y, 20, 20])],
    )
    item = COCOMasks(path, tmp_path)[0]
    assert np.array_equal(item.image[..., 0] > 127, item.instances == 1)
    record = dict(
        name='a.png', size=seen.shape[::-1], data_root=str(tmp_path), img_path=tmp_path / 'a.png'
    )
    for kind in ('mask', 'box'):
        assert np.array_equal(CocoRegions(str(path), kind)(record) == 0, seen)


def test_another_size_is_an_error_of_one_line(tmp_path):
    path = write(tmp_path, [dict(id=1, file_name='a.png', width=61, height=40)])
    with pytest.raises(SettingsError, match='the image is 61 x 40 pixels: it is 60 x'):
        COCOMasks(path, tmp_path)[0]


def test_names_that_only_folders_tell_apart(tmp_path):
    images = [
        dict(id=i, file_name=f'{folder}/a.png', width=60, height=40)
        for i, folder in enumerate(['x', 'y'])
    ]
    path = write(tmp_path, images, [annotation(image_id=1)])
    source = CocoRegions(str(path))
    record = dict(size=(60, 40), data_root=str(tmp_path), img_path='a.png')
    assert (source(dict(record, name='y/a.png')) == 0).any()
    assert not (source(dict(record, name='x/a.png')) == 0).any()
    with pytest.raises(Exception, match="'a.png' is not in"):
        source(dict(record, name='a.png'))


def test_names_of_both_slashes_are_one(tmp_path):
    images = [dict(id=i, file_name=name) for i, name in enumerate(['x/a.png', 'x\\a.png'])]
    with pytest.raises(SettingsError, match="several images of file_name 'x/a.png'"):
        read_coco(write(tmp_path, images), 'json')


def test_a_byte_order_mark_of_windows_is_no_part_of_the_json(tmp_path):
    path = write(tmp_path)
    path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
    for mask in both(path):
        assert (mask == square()).all()


@pytest.mark.parametrize(
    'other',
    [
        dict(caption='a cup', segmentation='gone', bbox='gone', category_id='gone'),
        dict(segments_info=[dict(id=1, category_id=3)], segmentation='gone', bbox='gone'),
    ],
    ids=['captions', 'panoptic'],
)
def test_jsons_of_other_tasks_are_no_background(other, tmp_path):
    path = write(tmp_path, annotations=[annotation(**other)])
    for reads in (lambda: COCOMasks(path, tmp_path)[0], lambda: CocoRegions(str(path))):
        with pytest.raises(SettingsError, match='no masks'):
            reads()
