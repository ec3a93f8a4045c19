"""Generated scenes: determinism, truth, files."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from plrc_plugin.datasets.scenes import writing as scenes_module
from plrc_plugin.datasets.scenes.composition import MIN_AREA
from plrc_plugin.datasets.scenes.cutouts import load_cutouts
from plrc_plugin.datasets.scenes.writing import CATEGORIES, compose_scene, encode_rle, make_scenes

ROOT = Path(__file__).resolve().parents[2]


def decode_rle(rle):
    """Independent reading of COCO's run lengths."""
    flat, value = [], 0
    for run in rle['counts']:
        flat += [value] * run
        value = 1 - value
    return np.array(flat, bool).reshape(rle['size'][::-1]).T


def snapshot(root):
    return {
        p.relative_to(root).as_posix(): p.read_bytes()
        for p in sorted(root.rglob('*'))
        if p.is_file()
    }


@pytest.fixture(scope='module')
def many():
    return [compose_scene(5, index) for index in range(60)]


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    return make_scenes(tmp_path_factory.mktemp('scenes') / 'set', 6, 3, seed=7, progress=False)


def test_a_scene_depends_on_its_number_alone(many):
    again = compose_scene(5, 41)
    assert np.array_equal(again.image, many[41].image)
    assert np.array_equal(again.semantic, many[41].semantic)
    pictures = {scene.image.tobytes() for scene in many}
    assert len(pictures) == len(many)


def test_seed_and_split_are_separate_streams(many):
    for index in range(3):
        for other in (compose_scene(6, index), compose_scene(5, index, split='val')):
            assert (
                other.image.shape != many[index].image.shape
                or (other.image != many[index].image).mean() > 0.5
            )


def test_masks_are_disjoint_and_make_the_semantic_map(many):
    for scene in many:
        height, width = scene.semantic.shape
        assert scene.image.shape == (height, width, 3) and scene.image.dtype == np.uint8
        assert 2 <= len(scene.instances) <= 6
        count, semantic = np.zeros((height, width), int), np.zeros((height, width), int)
        for instance in scene.instances:
            assert instance.mask.shape == (height, width)
            assert instance.area == instance.mask.sum() >= MIN_AREA * height * width
            count += instance.mask
            semantic[instance.mask] = instance.category + 1
        assert count.max() == 1
        assert np.array_equal(semantic, scene.semantic)
        assert 0.2 < (semantic == 0).mean() < 0.99


def test_boxes_are_the_extent_of_the_masks(many):
    for instance in (i for scene in many for i in scene.instances):
        rows, columns = np.nonzero(instance.mask)
        assert instance.bbox == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]


def test_variety(many):
    instances = [i for scene in many for i in scene.instances]
    assert {i.category for i in instances} == set(range(len(CATEGORIES)))
    assert len({scene.image.shape for scene in many}) > 1
    assert {len(scene.instances) for scene in many} == {2, 3, 4, 5, 6}
    areas = np.array([i.area for i in instances])
    assert np.percentile(areas, 95) > 8 * np.percentile(areas, 5)
    boxes = [(n, i.bbox) for n, scene in enumerate(many) for i in scene.instances]
    overlaps = sum(
        a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]
        for i, (n, a) in enumerate(boxes)
        for m, b in boxes[i + 1 :]
        if n == m
    )
    assert overlaps > 20  # objects do stand in front of one another


def test_the_mask_lies_on_the_object(many):
    """Colours change at the masks' borders far more than beside them."""
    inside, beside = [], []
    kernel = np.ones((3, 3), np.uint8)
    for scene in many:
        grey = cv2.cvtColor(scene.image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        slope = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, kernel)
        mask = (scene.semantic > 0).astype(np.uint8)
        border = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, kernel) > 0
        far = cv2.dilate(mask, np.ones((25, 25), np.uint8)) > cv2.dilate(
            mask, np.ones((15, 15), np.uint8)
        )
        inside.append(slope[border].mean())
        beside.append(slope[far].mean())
    assert np.mean(inside) > 1.5 * np.mean(beside)


def test_cutouts_are_not_rectangles():
    for category, cutouts in load_cutouts().items():
        assert cutouts
        for cutout in cutouts:
            rgba = cutout.levels[0]
            assert cutout.category == category and rgba.dtype == np.float32
            assert (rgba[..., :3] <= rgba[..., 3:] + 1e-5).all()  # premultiplied
            assert 0.05 < (rgba[..., 3] > 0.5).mean() < 0.9
            corners = rgba[[0, 0, -1, -1], [0, -1, 0, -1], 3]
            assert (corners < 0.5).sum() >= 2


@pytest.mark.parametrize(
    'mask',
    [
        np.zeros((3, 4), bool),
        np.ones((3, 4), bool),
        np.eye(5, dtype=bool),
        np.array([[1, 0], [0, 0]], bool),
        np.array([[0, 0], [0, 1]], bool),
    ],
)
def test_rle_round_trip(mask):
    rle = encode_rle(mask)
    assert sum(rle['counts']) == mask.size and all(run > 0 for run in rle['counts'][1:])
    assert np.array_equal(decode_rle(rle), mask)


def test_rle_is_cocos():
    coco_mask = pytest.importorskip('pycocotools.mask')
    mask = compose_scene(1, 1).instances[0].mask
    rle = encode_rle(mask)
    assert np.array_equal(coco_mask.decode(coco_mask.frPyObjects(rle, *mask.shape)), mask)


def test_files_agree_with_one_another(made):
    for split, count in (('train', 6), ('val', 3)):
        coco = json.loads((made / 'annotations' / f'instances_{split}.json').read_text())
        assert [c['name'] for c in coco['categories']] == list(CATEGORIES)
        assert len(coco['images']) == count == len(list((made / split).iterdir()))
        assert len({a['id'] for a in coco['annotations']}) == len(coco['annotations'])
        for index, image in enumerate(coco['images']):
            picture = cv2.imread(str(made / split / image['file_name']))
            name = image['file_name'].replace('.jpg', '.png')
            stored = cv2.imread(str(made / 'semantic' / split / name), cv2.IMREAD_UNCHANGED)
            assert picture.shape[:2] == stored.shape == (image['height'], image['width'])
            scene = compose_scene(7, index, split)
            error = np.abs(picture[..., ::-1].astype(int) - scene.image).mean()
            assert error < 6  # JPEG only
            semantic = np.zeros(stored.shape, np.uint8)
            found = [a for a in coco['annotations'] if a['image_id'] == image['id']]
            assert len(found) == len(scene.instances)
            for annotation in found:
                mask = decode_rle(annotation['segmentation'])
                rows, columns = np.nonzero(mask)
                x, y, w, h = annotation['bbox']
                assert (x, y, x + w - 1, y + h - 1) == (
                    columns.min(),
                    rows.min(),
                    columns.max(),
                    rows.max(),
                )
                assert annotation['area'] == mask.sum() and annotation['iscrowd'] == 0
                semantic[mask] = annotation['category_id']
            assert np.array_equal(semantic, stored)


def test_same_settings_again_do_nothing(made, monkeypatch, capsys):
    before = {p: p.stat().st_mtime_ns for p in made.rglob('*')}
    monkeypatch.setattr(scenes_module, 'compose_scene', None)  # would fail if it were called
    make_scenes(made, 6, 3, seed=7)
    assert 'already there' in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in made.rglob('*')} == before


def test_incomplete_or_other_sets_are_remade(tmp_path, capsys):
    root = make_scenes(tmp_path / 'set', 4, 1, progress=False)
    whole = snapshot(root)
    (root / 'train' / 'scene_000002.jpg').unlink()
    make_scenes(root, 4, 1)
    assert snapshot(root) == whole
    assert 'scenes 5/5' in capsys.readouterr().out

    make_scenes(root, 2, 2, progress=False)
    fewer = snapshot(root)
    assert not (root / 'train' / 'scene_000002.jpg').exists()
    shared = [
        f'{folder}/scene_000001.{ext}'
        for folder, ext in (('train', 'jpg'), ('semantic/train', 'png'))
    ] + ['val/scene_000000.jpg']
    assert all(fewer[name] == whole[name] for name in shared)  # whatever the counts
    assert [p.name for p in tmp_path.iterdir()] == ['set']


def test_a_failure_leaves_the_old_set(tmp_path, monkeypatch):
    root = make_scenes(tmp_path / 'set', 2, 1, progress=False)
    before = snapshot(root)

    def break_down(seed, index, *args):
        if index == 1:
            raise KeyboardInterrupt
        return compose_scene(seed, index, *args)

    monkeypatch.setattr(scenes_module, 'compose_scene', break_down)
    with pytest.raises(KeyboardInterrupt):
        make_scenes(root, 3, 1, progress=False)
    assert snapshot(root) == before
    assert [p.name for p in tmp_path.iterdir()] == ['set']


@pytest.mark.parametrize('name', ['notes.txt', 'train/scene_000000.jpg', 'train/mine.jpg'])
def test_foreign_files_are_refused_and_kept(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text('mine')
    with pytest.raises(ValueError, match='not generated scenes'):
        make_scenes(tmp_path, 1, 0, progress=False)
    assert path.read_text() == 'mine'


def test_a_foreign_file_in_our_folder_is_kept(tmp_path):
    root = make_scenes(tmp_path / 'set', 1, 0, progress=False)
    (root / 'train' / 'mine.jpg').write_text('mine')
    make_scenes(root, 1, 0, progress=False)  # nothing to do
    with pytest.raises(ValueError, match='mine.jpg'):
        make_scenes(root, 2, 0, progress=False)
    assert (root / 'train' / 'mine.jpg').read_text() == 'mine'


@pytest.mark.parametrize(
    'settings, word',
    [
        (dict(num_train=-1), 'num_train'),
        (dict(num_val=-2), 'num_val'),
        (dict(seed=-1), 'seed'),
        (dict(num_train=0, num_val=0), 'at least one'),
        (dict(size=(320, 20)), 'size'),
        (dict(size=(320, 240.5)), 'size'),
        (dict(num_train=1.5), 'num_train'),
    ],
)
def test_impossible_settings_are_named(tmp_path, settings, word):
    with pytest.raises(ValueError, match=word):
        make_scenes(tmp_path / 'set', **{**dict(num_train=1, num_val=1), **settings})
    assert not (tmp_path / 'set').exists()


@pytest.mark.parametrize('arguments', [(-1, 0), (0, -1), (0, 0, 'test')])
def test_impossible_scenes_are_named(arguments):
    with pytest.raises(ValueError, match='seed and index|split'):
        compose_scene(*arguments)


def test_a_root_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').write_text('mine')
    with pytest.raises(ValueError, match='is a file'):
        make_scenes(tmp_path / 'file', 1, 0, progress=False)
    with pytest.raises(ValueError, match='cannot write'):
        make_scenes(tmp_path / 'file' / 'set', 1, 0, progress=False)


def test_command_in_a_new_process_makes_the_same_set(tmp_path):
    command = [sys.executable, str(ROOT / 'tools' / 'make_scenes.py'), str(tmp_path / 'a')]
    command += ['--num-train', '3', '--num-val', '1', '--size', '160', '120', '--seed', '4']
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    assert '3 + 1 scenes made' in done.stdout
    here = make_scenes(tmp_path / 'b', 3, 1, seed=4, size=(160, 120), progress=False)
    assert snapshot(tmp_path / 'a') == snapshot(here)


def test_command_ends_with_a_clear_error(tmp_path, monkeypatch, capsys):
    (tmp_path / 'mine').write_text('mine')
    monkeypatch.setattr(sys, 'argv', ['make_scenes.py', str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / 'tools' / 'make_scenes.py'), run_name='__main__')
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith('error: root=')
