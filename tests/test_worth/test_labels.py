"""Labels of three forms, and their split."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from plrc_plugin.datasets.masked_images import COCOMasks, VOCMasks
from plrc_plugin.errors import SettingsError
from plrc_plugin.worth.frozen import probe_cells
from plrc_plugin.worth.labels import read_labels
from plrc_plugin.worth.splits import drawn, same_content, split_labels
from plrc_plugin.worth.writing import part_name, write_labels

XML = """<annotation><filename>{name}.jpg</filename>
<object><name>dog</name><difficult>{difficult}</difficult>
<bndbox><xmin>3</xmin><ymin>5</ymin><xmax>22</xmax><ymax>14</ymax></bndbox></object></annotation>"""


def picture(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(path)


@pytest.fixture
def voc(tmp_path):
    """Eight images with a box each, the last one a difficult one; and a mask of two classes."""
    root = tmp_path / 'voc'
    for folder in ('Annotations', 'SegmentationClass'):
        (root / folder).mkdir(parents=True)
    for i in range(8):
        picture(root / 'JPEGImages' / f'{i}.jpg', i)
        (root / 'Annotations' / f'{i}.xml').write_text(XML.format(name=i, difficult=int(i == 7)))
        mask = np.zeros((30, 40), np.uint8)
        mask[5:15, 3:23], mask[20:25], mask[0] = 4, 9, 255
        Image.fromarray(mask).save(root / 'SegmentationClass' / f'{i}.png')
    return root


def coco(root, **change):
    content = dict(
        images=[dict(id=i, file_name=f'{i}.jpg', width=40, height=30) for i in range(8)],
        categories=[dict(id=3, name='cat'), dict(id=18, name='dog')],
        annotations=[
            dict(id=i, image_id=i, category_id=18, bbox=[2, 4, 20, 10], iscrowd=0) for i in range(7)
        ],
    )
    (root / 'labels.json').write_text(json.dumps({**content, **change}))
    return root / 'labels.json'


def test_vocs_xml(voc):
    labels = read_labels(voc)
    assert (labels.kind, labels.classes, len(labels.images)) == ('boxes', ('dog',), 8)
    (one,) = labels.images[0].objects
    assert one.box == [2, 4, 20, 10] and not one.ignored  # VOC counts pixels from 1
    assert labels.images[7].objects[0].ignored
    assert labels.images[0].path == (voc / 'JPEGImages' / '0.jpg').resolve()


def test_masks_are_numbered_anew_and_void_stays_void(voc, tmp_path):
    (voc / 'SegmentationClass' / 'classes.txt').write_text('a\nb\nc\nhorse\n')
    labels = read_labels(voc / 'SegmentationClass')
    assert (labels.kind, labels.values) == ('masks', (0, 4, 9))
    assert labels.classes == ('horse', 'class 9')
    split = split_labels(labels)
    write_labels(tmp_path / 'out', labels, split, [50, 100], [0])
    data = VOCMasks(tmp_path / 'out', 'train_100', classes=('background', *labels.classes))
    item = data[0]
    assert set(np.unique(item.semantic)) == {-1, 0, 1, 2}
    assert (item.image == np.asarray(Image.open(split.train[0].path))).all()
    assert len(data) == 6 and len(probe_cells('masks', tmp_path / 'out', labels.classes)) == 8
    half = (tmp_path / 'out/ImageSets/Segmentation' / f'{part_name(50, 0)}.txt').read_text()
    assert len(half.split()) == 3


def test_masks_of_0_and_255_have_one_class(voc):
    for file in (voc / 'SegmentationClass').glob('*.png'):
        mask = np.zeros((30, 40), np.uint8)
        mask[10:] = 255
        Image.fromarray(mask).save(file)
    assert read_labels(voc / 'SegmentationClass').values == (0, 255)


def test_cocos_json_with_boxes_alone_can_be_probed(voc, tmp_path):
    labels = read_labels(coco(voc), voc / 'JPEGImages')
    assert labels.classes == ('cat', 'dog') and labels.images[0].objects[0].label == 1
    split = split_labels(labels)
    write_labels(tmp_path / 'out', labels, split, [10, 100], [0, 1])
    data = COCOMasks(str(tmp_path / 'out' / 'train_100.json'), '')
    assert data.classes == ('background', 'cat', 'dog') and len(data) == len(split.train)
    assert (data[0].semantic[4:14, 2:22] == 2).all() and (data[0].semantic == 2).sum() == 200
    assert json.loads((tmp_path / 'out' / 'train_10_seed1.json').read_text())['images']


def test_the_split_goes_by_content_and_not_by_name(voc):
    first = split_labels(read_labels(voc))
    assert len(first.train) == 6 and len(first.test) == 2 and 'SHA-256' in first.rule
    contents = sorted(image.path.read_bytes() for image in first.test)
    for i in range(8):  # other names, another order
        (voc / 'JPEGImages' / f'{i}.jpg').rename(voc / 'JPEGImages' / f'z{9 - i}.jpg')
        (voc / 'Annotations' / f'{i}.xml').rename(voc / 'Annotations' / f'z{9 - i}.xml')
    again = split_labels(read_labels(voc))
    assert sorted(image.path.read_bytes() for image in again.test) == contents


def test_copies_of_an_image_are_on_one_side(voc):
    for i in range(8):
        shutil.copy(voc / 'JPEGImages' / f'{i}.jpg', voc / 'JPEGImages' / f'copy{i}.jpg')
        shutil.copy(voc / 'Annotations' / f'{i}.xml', voc / 'Annotations' / f'copy{i}.xml')
    split = split_labels(read_labels(voc))
    sides = [{image.path.stem.removeprefix('copy') for image in side} for side in split[:2]]
    assert not sides[0] & sides[1] and len(split.test) == 4


def test_the_users_own_split(voc, tmp_path):
    (tmp_path / 'test.txt').write_text('1\n3.jpg\n')
    split = split_labels(read_labels(voc), tmp_path / 'test.txt')
    assert [image.path.stem for image in split.test] == ['1', '3'] and len(split.train) == 6
    other = tmp_path / 'other'
    shutil.copytree(voc, other)
    split = split_labels(read_labels(voc), other)
    assert len(split.train) == len(split.test) == 8 and split.test[0].path.is_relative_to(other)


def test_parts_are_nested_and_drawn_anew_for_each_seed():
    parts = [drawn(1000, percent, 3) for percent in (1, 10, 100)]
    assert [len(part) for part in parts] == [10, 100, 1000]
    assert set(parts[0]) < set(parts[1]) < set(parts[2])
    assert parts[0] == drawn(1000, 1, 3) != drawn(1000, 1, 4)
    assert len(drawn(5, 1, 0)) == 1


def test_test_images_among_the_photographs_are_found_by_content(voc, tmp_path):
    photos = tmp_path / 'photos'
    photos.mkdir()
    shutil.copy(voc / 'JPEGImages' / '0.jpg', photos / 'other name.jpg')
    picture(photos / 'more.jpg', 99)
    images = [voc / 'JPEGImages' / f'{i}.jpg' for i in range(8)]
    assert same_content(images, sorted(photos.iterdir())) == {photos / 'other name.jpg'}


@pytest.mark.parametrize(
    'make, message',
    [
        (lambda root: root / 'nowhere', 'neither a json nor a folder'),
        (lambda root: root / 'JPEGImages', 'holds neither'),
        (lambda root: coco(root, images=[]), 'no such image'),
        (lambda root: coco(root, images=[], annotations=[]), 'names no image'),
        (lambda root: coco(root, categories=[]), 'no such category'),
        (
            lambda root: coco(root, annotations=[dict(image_id=0, category_id=3)]),
            'has no bbox',
        ),
    ],
)
def test_labels_that_cannot_be_read_are_one_line(make, message, voc):
    with pytest.raises(SettingsError, match=message):
        read_labels(make(voc))


@pytest.mark.parametrize(
    'spoil, message',
    [
        (lambda root: (root / 'Annotations' / '0.xml').write_text('<a>'), "VOC's XML"),
        (lambda root: (root / 'JPEGImages' / '3.jpg').unlink(), 'the image 3 is not in'),
        (lambda root: shutil.rmtree(root / 'JPEGImages'), 'name their folder with --images'),
    ],
)
def test_damaged_folders_are_one_line(spoil, message, voc):
    spoil(voc)
    with pytest.raises(SettingsError, match=message):
        read_labels(voc)


def test_masks_with_colours_or_without_classes_are_one_line(voc):
    folder = voc / 'SegmentationClass'
    for file in folder.glob('*.png'):
        Image.fromarray(np.zeros((30, 40), np.uint8)).save(file)
    with pytest.raises(SettingsError, match='no class but the background'):
        read_labels(folder)
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(folder / '0.png')
    with pytest.raises(SettingsError, match='has colours'):
        read_labels(folder)


def test_one_labelled_image_cannot_be_split(voc):
    labels = read_labels(voc)
    with pytest.raises(SettingsError, match='no labelled image is left to train'):
        split_labels(labels._replace(images=labels.images[:1]))
