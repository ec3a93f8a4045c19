"""Masks of VOC, COCO and the scenes, and what cells make of them."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from plrc_plugin.datasets.masked_images import COCOMasks, VOCMasks, connected_parts
from plrc_plugin.datasets.scenes.writing import make_scenes
from plrc_plugin.errors import SettingsError
from plrc_plugin.evaluation.cells import ProbeCells, majority


def test_majority_by_counting():
    rng = np.random.default_rng(0)
    mask = rng.choice([0, 3, 7, -1], (12, 12))
    mask[:4, :4] = -1
    got = majority(mask, 3)
    for y in range(3):
        for x in range(3):
            votes = [int(v) for v in mask[4 * y : 4 * y + 4, 4 * x : 4 * x + 4].flat if v != -1]
            assert got[y, x] == (max(sorted(set(votes)), key=votes.count) if votes else -1)
    assert (majority(np.full((4, 4), -1), 2) == -1).all()


def test_connected_parts_are_numbered_by_class():
    semantic = np.array([[1, 1, 0, 1], [0, 1, 0, 2], [-1, 0, 1, 2]])
    # Cells that touch at a corner belong together; another class does not.
    expected = np.array([[1, 1, 0, 2], [0, 1, 0, 3], [-1, 0, 1, 3]])
    np.testing.assert_array_equal(connected_parts(semantic), expected)


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    return make_scenes(tmp_path_factory.mktemp('s') / 'scenes', 4, 3, progress=False)


def coco(root, split, **kwargs):
    return dict(
        type='plrc_plugin.COCOMasks',
        images=str(root / split),
        annotations=str(root / f'annotations/instances_{split}.json'),
        **kwargs,
    )


def test_scenes_masks_equal_their_semantic_maps(scenes):
    kwargs = coco(scenes, 'val')
    data = COCOMasks(kwargs['annotations'], kwargs['images'])
    assert len(data) == 3 and len(data.classes) == 9
    for i, (image, semantic, instances) in enumerate(data):
        truth = np.array(Image.open(scenes / f'semantic/val/scene_{i:06}.png'))
        np.testing.assert_array_equal(semantic, truth)
        assert image.shape[:2] == instances.shape and ((instances > 0) == (semantic > 0)).all()
        for label in np.unique(instances)[1:]:
            assert len(np.unique(semantic[instances == label])) == 1
        if i == 2:
            break


def test_crowds_are_void_and_small_objects_on_top(tmp_path):
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / 'a.png')

    def box(category, x, y, side, **more):
        corners = [x, y, x + side, y, x + side, y + side, x, y + side]
        return dict(image_id=1, category_id=category, segmentation=[corners], **more)

    (tmp_path / 'a.json').write_text(
        json.dumps(
            dict(
                images=[dict(id=1, file_name='a.png'), dict(id=2, file_name='b.png')],
                categories=[dict(id=90, name='z'), dict(id=7, name='c')],
                annotations=[box(7, 6, 6, 4), box(90, 2, 2, 14), box(90, 0, 0, 19, iscrowd=1)],
            )
        )
    )
    data = COCOMasks(tmp_path / 'a.json', tmp_path)
    assert len(data) == 1 and data.classes == ('background', 'c', 'z')  # b.png has no object
    _, semantic, instances = data[0]
    assert (semantic[8, 8], semantic[4, 4], semantic[0, 0], semantic[19, 19]) == (1, 2, -1, 0)
    assert instances[0, 0] == -1 and 0 < instances[4, 4] != instances[8, 8] > 0


@pytest.mark.parametrize('with_objects', [True, False])
def test_voc_layout(tmp_path, photo, with_objects):
    for folder in (
        'JPEGImages',
        'SegmentationClass',
        'SegmentationObject',
        'ImageSets/Segmentation',
    ):
        (tmp_path / folder).mkdir(parents=True)
    semantic = np.zeros((90, 120), np.uint8)
    semantic[10:40, 10:50], semantic[10:40, 50:90], semantic[9] = 15, 15, 255
    objects = semantic.copy()
    objects[10:40, 10:50], objects[10:40, 50:90] = 1, 2
    Image.fromarray(photo).save(tmp_path / 'JPEGImages/x.jpg')
    Image.fromarray(semantic).save(tmp_path / 'SegmentationClass/x.png')
    Image.fromarray(objects).save(tmp_path / 'SegmentationObject/x.png')
    (tmp_path / 'ImageSets/Segmentation/val.txt').write_text('x\n')
    if not with_objects:
        (tmp_path / 'SegmentationObject/x.png').unlink()
        (tmp_path / 'SegmentationObject').rmdir()
    image, semantic_read, instances = VOCMasks(tmp_path, 'val')[0]
    assert image.shape == (90, 120, 3) and semantic_read.dtype == np.int32
    assert (semantic_read == np.where(semantic == 255, -1, semantic.astype(int))).all()
    expected = objects.astype(int) if with_objects else (semantic == 15).astype(int)
    expected[9] = -1
    np.testing.assert_array_equal(instances, expected)


def test_probe_cells(scenes):
    data = ProbeCells(coco(scenes, 'train', max_images=2), coco(scenes, 'val'), size=64, cells=8)
    assert [data[i]['fit'] for i in range(len(data))] == [True] * 2 + [False] * 3
    item, raw = data[2], data.parts[1][0]
    assert item['pixels'].shape == (64, 64, 3)
    small = cv2.resize(raw.semantic, (64, 64), interpolation=cv2.INTER_NEAREST_EXACT)
    np.testing.assert_array_equal(item['semantic'], majority(small, 8))


@pytest.mark.parametrize(
    'make, message',
    [
        (lambda root: VOCMasks(root, 'val'), 'no list .*VOC2012'),
        (
            lambda root: COCOMasks(root / 'no.json', root),
            "cannot be read .*name a json in COCO's instance format",
        ),
        (lambda root: COCOMasks(root / 'empty.json', root), 'names no image'),
        (
            lambda root: COCOMasks(root / 'list.json', root),
            "cannot be read .*name a json in COCO's instance format",
        ),
    ],
)
def test_wrong_data_is_one_error(make, message, tmp_path):
    (tmp_path / 'empty.json').write_text('{"images": [], "categories": [], "annotations": []}')
    (tmp_path / 'list.json').write_text('[]')
    with pytest.raises(SettingsError, match=message):
        make(tmp_path)


def test_sizes_must_fit(scenes):
    with pytest.raises(SettingsError, match='multiple of cells'):
        ProbeCells(coco(scenes, 'train'), coco(scenes, 'val'), size=100, cells=14)


@pytest.mark.real_data
def test_real_masks(real_data):
    voc = VOCMasks(real_data / 'VOCdevkit/VOC2012', 'val', max_images=20)
    for _, semantic, instances in (voc[i] for i in range(20)):
        assert ((semantic == -1) == (instances == -1)).all() and (instances > 0).any()
    data = COCOMasks(
        real_data / 'coco/annotations/instances_val2017.json', real_data / 'coco/val2017'
    )
    assert len(data.classes) == 81
    for _, semantic, instances in (data[i] for i in range(20)):
        assert ((semantic > 0) == (instances > 0)).all() and (instances > 0).any()
