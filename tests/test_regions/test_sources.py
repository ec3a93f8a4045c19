"""Label files, segments and ground truth: what they give, and what they refuse."""

import json
import multiprocessing
import os

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import segmentation
from skimage.draw import polygon2mask

from plrc_plugin.datasets.collate import collate_views
from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.datasets.samplers import KeyedSampler
from plrc_plugin.errors import SettingsError
from plrc_plugin.images.coco_masks import box_mask, instance_mask
from plrc_plugin.images.decoding import DecodingError, read_image
from plrc_plugin.randomness import SampleKey
from plrc_plugin.regions import segmenter as segmenter_module
from plrc_plugin.regions.coco import CocoRegions, one_region_each
from plrc_plugin.regions.label_files import LabelFiles
from plrc_plugin.regions.sample_points import SampleRegionPoints
from plrc_plugin.regions.sampling import region_map_of_view
from plrc_plugin.regions.segmenter import SegmenterRegions
from plrc_plugin.regions.source import MissingRegions
from plrc_plugin.views.geometry import crop_affine


def record(folder, name, size=(120, 90)):
    return dict(name=name, data_root=str(folder), img_path=str(folder / name), size=size)


@pytest.fixture
def labels():
    return np.random.default_rng(3).integers(0, 200, (90, 120))


# ---- files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'suffix, save',
    [
        ('.png', lambda path, x: Image.fromarray(x.astype(np.uint8)).save(path)),
        ('_ids.png', lambda path, x: Image.fromarray((x * 300).astype(np.uint16)).save(path)),
        ('.png', lambda path, x: palette(x).save(path)),
        ('.npz', lambda path, x: np.savez_compressed(path, x)),
        ('.npz', lambda path, x: np.savez(path, regions=x.astype('>i2'))),
    ],
)
def test_ids_of_a_parallel_tree_and_of_files_beside_the_images(suffix, save, labels, tmp_path):
    expected = labels * 300 if suffix == '_ids.png' else labels
    for root in (None, str(tmp_path / 'labels')):
        folder = tmp_path / ('images' if root is None else 'labels') / 'n01'
        folder.mkdir(parents=True, exist_ok=True)
        save(folder / f'a{suffix}', labels)
        got = LabelFiles(suffix, root)(record(tmp_path / 'images', 'n01/a.jpg'))
        assert np.array_equal(got, expected)


def palette(ids):
    image = Image.fromarray(ids.astype(np.uint8), 'P')
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes())
    return image


def test_void_ids(labels, tmp_path):
    np.savez(tmp_path / 'a.npz', labels.astype(np.uint8))
    got = LabelFiles('.npz', void=(0, 7))(record(tmp_path, 'a.jpg'))
    assert np.array_equal(got < 0, (labels == 0) | (labels == 7))
    assert np.array_equal(got[got >= 0], labels[got >= 0])


@pytest.mark.parametrize('orientation', [1, 3, 6, 8])
def test_a_map_belongs_to_the_upright_image(orientation, tmp_path):
    """Of a photograph turned by its EXIF tag: the ids lie where the pixels lie."""
    stored = np.zeros((90, 120, 3), np.uint8)
    stored[:45, :60] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / 'a.jpg', exif=exif, quality=100)
    upright = read_image(tmp_path / 'a.jpg')
    np.savez(tmp_path / 'a.npz', (upright[..., 0] > 128).astype(np.uint8))
    dataset = ImageFolder(
        str(tmp_path),
        pipeline=[
            dict(type='plrc_plugin.TwoViews', size=64, jitter_prob=0, grey_prob=0, blur_prob=0),
            dict(
                type='plrc_plugin.SampleRegionPoints',
                resolution=16,
                regions=dict(type='LabelFiles', suffix='.npz'),
                keep_region_map=True,
            ),
        ],
    )
    sample = dataset[SampleKey(0, 0, 0)]
    for view, drawn in zip(sample['views'], sample['region_points']):
        bright = torch.from_numpy(view.pixels[2::4, 2::4, 0].copy()) > 128
        assert (bright == drawn.region_map.bool()).float().mean() > 0.9  # but for edges
    transposed = upright[..., 0].T
    if orientation in (6, 8):
        np.savez(tmp_path / 'a.npz', (transposed > 128).astype(np.uint8))
        with pytest.raises(SettingsError, match='a.npz is 120 x 90 .*90 x 120.*EXIF.*turn'):
            dataset[SampleKey(0, 0, 0)]


def save_png(array):
    return lambda path: Image.fromarray(array).save(path)


@pytest.mark.parametrize(
    'suffix, make, message',
    [
        ('.png', save_png(np.zeros((45, 60), np.uint8)), '60 x 45 pixels.*120 x 90.*resize'),
        ('.png', save_png(np.zeros((90, 120, 3), np.uint8)), r'colours \(RGB\).*one channel'),
        ('.png', save_png(np.zeros((90, 120, 4), np.uint8)), r'colours \(RGBA\)'),
        ('.png', lambda path: path.write_bytes(b'no picture'), 'cannot be read.*make it anew'),
        ('.png', lambda path: path.write_bytes(b''), 'cannot be read'),
        ('.png', lambda path: Image.new('L', (120, 90)).save(path, 'JPEG'), 'cannot be read'),
        ('.png', lambda path: path.mkdir(), 'cannot be read'),
        ('.png', os.mkfifo, 'not a regular file'),
        ('.npz', os.mkfifo, 'not a regular file'),
        ('.npz', lambda path: np.savez(path, np.zeros((90, 120))), 'integers, got float64.*astype'),
        (
            '.npz',
            lambda path: np.savez(path, np.full((90, 120), 2**63, np.uint64)),
            'id 9223372036854775808 is beyond int64.*renumber',
        ),
        ('.npz', lambda path: np.savez(path, np.zeros((90, 120, 1), int)), r'\(H, W\)'),
        ('.npz', lambda path: np.savez(path, a=np.zeros(1), b=np.zeros(1)), "one array, has .*'b'"),
        ('.npz', lambda path: np.savez(path, np.full((90, 120), None)), 'cannot be read'),
        ('.npz', lambda path: path.write_bytes(b'PK\x03\x04'), 'cannot be read'),
    ],
)
def test_files_that_are_no_label_maps(suffix, make, message, tmp_path):
    make(tmp_path / f'a{suffix}')
    with pytest.raises(SettingsError, match=message) as caught:
        LabelFiles(suffix)(record(tmp_path, 'a.jpg'))
    assert str(tmp_path / f'a{suffix}') in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'name', ['../out/a.jpg', 'n01/../../out/a.jpg', '/etc/a.jpg', 'link/a.jpg', 'b.jpg']
)
def test_files_never_lead_out_of_the_root(name, tmp_path):
    for folder in ('root', 'out', 'root/n01'):
        (tmp_path / folder).mkdir()
    Image.new('L', (120, 90)).save(tmp_path / 'out' / 'a.png')
    os.symlink(tmp_path / 'out', tmp_path / 'root' / 'link')
    os.symlink(tmp_path / 'out' / 'a.png', tmp_path / 'root' / 'b.png')
    with pytest.raises(SettingsError, match='outside'):
        LabelFiles('.png', str(tmp_path / 'root'))(record(tmp_path / 'images', name))


def test_an_image_is_not_its_own_map(tmp_path):
    Image.new('L', (120, 90)).save(tmp_path / 'a.png')
    with pytest.raises(SettingsError, match='is the image itself: set root'):
        LabelFiles('.png')(record(tmp_path, 'a.png'))


@pytest.mark.parametrize(
    'setting, message',
    [
        (dict(suffix='.jpg'), 'suffix must end'),
        (dict(root='nowhere'), "root='nowhere' is not"),
        (dict(void='0'), 'void must be'),
        (dict(void=None), 'void must be'),
        (dict(void=0), 'void must be'),
        (dict(void=[0.5]), 'void must be'),
    ],
)
def test_label_file_settings(setting, message):
    with pytest.raises(SettingsError, match=f'LabelFiles: {message}'):
        LabelFiles(**setting)


def test_a_source_that_does_not_exist():
    with pytest.raises(
        SettingsError,
        match="regions.type must be one of .*'CocoRegions', .*got "
        "'Grids'; if the source is your own, .*custom_imports",
    ):
        SampleRegionPoints(dict(type='Grids'))


# ---- the policy, through the loader -------------------------------------------------------


def dataset_with_maps(folder, missing):
    for path in sorted(folder.rglob('*.[pP]*'))[:4]:
        np.savez(path.with_suffix('.npz'), np.zeros((90, 120), np.int16))
    return ImageFolder(
        str(folder),
        pipeline=[
            dict(type='plrc_plugin.TwoViews', size=32),
            dict(
                type='plrc_plugin.SampleRegionPoints',
                resolution=14,
                missing=missing,
                regions=dict(type='LabelFiles', suffix='.npz'),
            ),
        ],
    )


def test_images_without_a_map_follow_the_policy(image_folder):
    dataset = dataset_with_maps(image_folder, 'grid')
    without = {
        str(path) for path in image_folder.rglob('*.[pP]*') if not path.with_suffix('.npz').exists()
    }
    assert len(without) == 2
    samples = [dataset[SampleKey(0, 0, i)] for i in range(6)]
    for sample in samples:
        regions = set(sample['region_points'][0].regions.tolist())
        assert (regions == {0}) == (sample['img_path'] not in without)
    assert set(collate_views(samples)['regions_missing']) == without
    strict = dataset_with_maps(image_folder, 'error')
    with pytest.raises(SettingsError, match="no label map .*npz: make it; or set missing='grid'"):
        [strict[SampleKey(0, 0, i)] for i in range(6)]


@pytest.mark.parametrize('workers', [0, 1])
def test_a_bad_map_is_an_error_of_one_line_and_no_broken_image(workers, image_folder):
    np.savez(image_folder / 'a.npz', np.zeros((9, 12), np.int16))
    dataset = dataset_with_maps(image_folder, 'grid')
    np.savez(image_folder / 'a.npz', np.zeros((9, 12), np.int16))
    loader = torch.utils.data.DataLoader(
        dataset, 2, sampler=KeyedSampler(dataset), num_workers=workers, collate_fn=collate_views
    )
    with pytest.raises(SettingsError, match='a.npz is 12 x 9 pixels') as caught:
        list(loader)
    assert '\n' not in str(caught.value) and 'Traceback' not in str(caught.value)


def test_label_maps_beside_images_are_no_images(image_folder):
    Image.new('L', (120, 90)).save(image_folder / 'a_regions.png')
    dataset = ImageFolder(str(image_folder), exclude='*_regions.png')
    assert len(dataset) == 6 and len(ImageFolder(str(image_folder))) == 7
    one = record(image_folder, 'a.png')
    assert LabelFiles('_regions.png')(one).shape == (90, 120)


# ---- segments -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    'method, parameters',
    [('felzenszwalb', dict(scale=50, min_size=20)), ('slic', dict(n_segments=9, compactness=100))],
)
def test_segments_are_scikit_images(method, parameters, image_folder):
    got = SegmenterRegions(method, long_side=120, **parameters)(record(image_folder, 'a.png'))
    expected = getattr(segmentation, method)(read_image(image_folder / 'a.png'), **parameters)
    assert got.shape == (90, 120) and len(np.unique(got)) > 1 and np.array_equal(got, expected)
    small = SegmenterRegions(method, long_side=40)(record(image_folder, 'a.png'))
    assert small.shape == (30, 40)


def test_a_cached_segment_is_the_computed_one_of_content_and_settings(
    image_folder, tmp_path, monkeypatch
):
    cache = tmp_path / 'cache'

    def segments(**parameters):
        return SegmenterRegions(cache_dir=str(cache), min_size=20, **parameters)

    def files():
        return sorted(path for path in cache.rglob('*') if path.is_file())

    first = segments()(record(image_folder, 'a.png'))
    assert np.array_equal(first, SegmenterRegions(min_size=20)(record(image_folder, 'a.png')))
    segments()(record(image_folder, 'b.png'))
    segments(scale=100)(record(image_folder, 'a.png'))
    segments(long_side=60)(record(image_folder, 'a.png'))
    assert len(files()) == 4 and all(path.suffix == '.png' for path in files())
    (image_folder / 'n03').mkdir()
    (image_folder / 'n03' / 'z.png').write_bytes((image_folder / 'a.png').read_bytes())
    monkeypatch.setattr(segmenter_module.SegmenterRegions, '_labels', None)  # nothing is computed
    assert np.array_equal(segments()(record(image_folder, 'n03/z.png')), first)
    monkeypatch.undo()
    for path in files():  # as a crash would leave them
        path.write_bytes(path.read_bytes()[:-20])
    assert np.array_equal(segments()(record(image_folder, 'a.png')), first)
    assert Image.open(next(path for path in files() if path.stat().st_size > 60)).size


def fill(folder, cache, barrier):
    barrier.wait()
    source = SegmenterRegions(cache_dir=cache, min_size=20)
    for name in ('a.png', 'b.png'):
        source(dict(img_path=os.path.join(folder, name)))


def test_several_workers_write_one_cache(image_folder, tmp_path):
    context = multiprocessing.get_context('fork')
    barrier = context.Barrier(4)
    args = (str(image_folder), str(tmp_path / 'cache'), barrier)
    workers = [context.Process(target=fill, args=args) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    left = [path for path in (tmp_path / 'cache').rglob('*') if path.is_file()]
    assert len(left) == 2 and all(Image.open(path).size == (120, 90) for path in left)


@pytest.mark.parametrize(
    'setting, message',
    [
        (dict(method='sam'), "method must be one of .*'sam'"),
        (dict(long_side=0), 'long_side must'),
        (dict(scael=3), 'felzenszwalb of scikit-image has no parameter scael'),
        (dict(method='slic', scale=3), 'slic of scikit-image has no parameter scale'),
    ],
)
def test_segmenter_settings(setting, message):
    with pytest.raises(SettingsError, match=f'SegmenterRegions: {message}'):
        SegmenterRegions(**setting)


def test_segmenter_troubles_name_their_file(image_folder, tmp_path):
    (tmp_path / 'taken').write_text('a file')
    with pytest.raises(SettingsError, match='cannot be written .*another cache_dir'):
        SegmenterRegions(cache_dir=str(tmp_path / 'taken'))(record(image_folder, 'a.png'))
    with pytest.raises(SettingsError, match='cannot be used for .*a.png'):
        SegmenterRegions('slic', n_segments='x')(record(image_folder, 'a.png'))
    (image_folder / 'a.png').write_bytes(b'broken')
    with pytest.raises(DecodingError):
        SegmenterRegions()(record(image_folder, 'a.png'))


# ---- ground truth -------------------------------------------------------------------------

SQUARES = [[10, 10, 50, 10, 50, 50, 10, 50]], [[40, 30, 100, 30, 100, 80, 40, 80]]


def write_json(path, images=None, annotations=None):
    images = images or [
        dict(id=5, file_name='a.png', width=120, height=90),
        dict(id=7, file_name='n01/c.png', width=120, height=90),
    ]
    if annotations is None:
        annotations = [
            dict(image_id=5, segmentation=s, bbox=b)
            for s, b in zip(SQUARES, ([10, 10, 40, 40], [40, 30, 60, 50]))
        ]
        annotations.append(
            dict(
                image_id=5,
                iscrowd=1,
                bbox=[0, 0, 120, 90],
                segmentation=dict(size=[90, 120], counts=[0, 10800]),
            )
        )
    path.write_text(json.dumps(dict(images=images, annotations=annotations)))
    return str(path)


@pytest.mark.parametrize('kind', ['mask', 'box'])
def test_each_instance_is_a_region_overlap_crowd_and_background_are_void(
    kind, tmp_path, image_folder
):
    source = CocoRegions(write_json(tmp_path / 'a.json'), kind)
    labels = source(record(image_folder, 'a.png'))
    expected = np.full((90, 120), -1)
    expected[10:50, 10:50] = 0
    expected[30:80, 40:100] = 1
    expected[30:50, 40:50] = -1
    assert np.array_equal(labels, expected)
    assert (source(record(image_folder, 'n01/c.png')) < 0).all()
    with pytest.raises(MissingRegions, match="'b.png' is not in .*a.json"):
        source(record(image_folder, 'b.png'))
    with pytest.raises(SettingsError, match='a.png is 60 x 90 .*says 120 x 90'):
        source(record(image_folder, 'a.png', (60, 90)))


def test_regions_of_many_masks_by_brute_force():
    masks = np.random.default_rng(0).random((5, 12, 13)) < 0.3
    expected = np.where(masks.sum(0) == 1, masks.argmax(0), -1)
    assert np.array_equal(one_region_each(list(masks), 12, 13), expected)


@pytest.mark.parametrize('seed', range(10))
def test_polygons_cover_the_pixels_whose_centres_they_contain(seed):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    radii = rng.uniform(12, 45, 9)
    x, y = 60 + radii * np.cos(angles) + 20, 40 + radii * np.sin(angles)  # leaves the image
    got = instance_mask([np.stack([x, y], 1).ravel().tolist()], 90, 120)
    expected = polygon2mask((90, 120), np.stack([y, x], 1) - 0.5)
    assert (got & expected).sum() / (got | expected).sum() > 0.96


@pytest.mark.parametrize('share', [0, 0.002, 0.4, 1])
def test_run_lengths(share):
    mask_api = pytest.importorskip('pycocotools.mask')
    mask = np.random.default_rng(0).random((90, 120)) < share
    packed = mask_api.encode(np.asfortranarray(mask.astype(np.uint8)))
    compressed = dict(size=[90, 120], counts=packed['counts'].decode())
    assert np.array_equal(instance_mask(compressed, 90, 120), mask)
    from plrc_plugin.datasets.scenes.writing import encode_rle

    assert np.array_equal(instance_mask(encode_rle(mask), 90, 120), mask)


def test_boxes_hold_pixel_centres():
    box = [3.4, 2.6, 4.2, 5.0]
    expected = [
        [3.4 <= x + 0.5 < 7.6 and 2.6 <= y + 0.5 < 7.6 for x in range(12)] for y in range(9)
    ]
    assert np.array_equal(box_mask(box, 9, 12), expected)


@pytest.mark.parametrize(
    'content, message',
    [
        ('', 'cannot be read'),
        ('[]', 'cannot be read'),
        ('{}', "lacks 'images'"),
        ('{"images": [], "annotations": []}', '0 images and no instances'),
        (
            '{"images": [{"id": 1, "file_name": "a", "width": 2, "height": 2}], "annotations": []}',
            '1 images and no instances',
        ),
        (
            '{"images": [{"id": 1, "file_name": "a", "width": 2, "height": 2}], "annotations": '
            '[{"image_id": 1, "caption": "no instance"}]}',
            'have no masks: set kind=',
        ),
    ],
)
def test_jsons_that_hold_no_instances(content, message, tmp_path):
    (tmp_path / 'a.json').write_text(content)
    with pytest.raises(SettingsError, match=f"ann_file='.*a.json' (has )?{message}.*name a json"):
        CocoRegions(str(tmp_path / 'a.json'))
    with pytest.raises(SettingsError, match='cannot be read.*No such file'):
        CocoRegions(str(tmp_path / 'b.json'))
    with pytest.raises(SettingsError, match="kind must be 'mask' or 'box'"):
        CocoRegions(str(tmp_path / 'a.json'), 'boxes')


@pytest.mark.parametrize(
    'shape',
    [
        [[1, 2, 3]],
        dict(size=[9, 9], counts=[81]),
        dict(size=[90, 120], counts=[5]),
        'text',
        [['x']],
        [[1, 2, float('nan'), 4, 5, 6]],
        [[1, 2, float('inf'), 4, 5, 6]],
        dict(size=[90, 120], counts=[-1, 10801]),
        dict(size=[90, 120], counts=[10**30]),
        dict(size=[90, 120], counts='xxx'),
        dict(size=[90, 120], counts=''),
        dict(size=[90, 120], counts='0'),
        dict(size=[90, 120], counts='\u20ac'),
    ],
)
def test_instances_that_cannot_be_read(shape, tmp_path, image_folder):
    path = write_json(tmp_path / 'a.json', annotations=[dict(image_id=5, segmentation=shape)])
    with pytest.raises(SettingsError, match="an instance of 'a.png' in .*a.json cannot be read"):
        CocoRegions(path)(record(image_folder, 'a.png'))


@pytest.mark.parametrize('box', [[1, 2, float('nan'), 4], [float('-inf'), 2, 3, 4], [1, 2, 3], 'x'])
def test_boxes_that_cannot_be_read(box, tmp_path, image_folder):
    path = write_json(tmp_path / 'a.json', annotations=[dict(image_id=5, bbox=box)])
    with pytest.raises(SettingsError, match="an instance of 'a.png' in .*a.json cannot be read"):
        CocoRegions(path, 'box')(record(image_folder, 'a.png'))


@pytest.mark.parametrize(
    'ids, names, image_id, message',
    [
        ((5, 5), ('a', 'b'), 5, 'several images of id 5: give each'),
        ((5, 6), ('a', 'a'), 5, "several images of file_name 'a': give each"),
        ((5, 6), ('a', 'b'), 9, 'annotations of image_id 9, but no such image: add it'),
    ],
)
def test_jsons_that_contradict_themselves(ids, names, image_id, message, tmp_path):
    path = write_json(
        tmp_path / 'a.json',
        [dict(id=i, file_name=name, width=9, height=9) for i, name in zip(ids, names)],
        [dict(image_id=image_id, segmentation=SQUARES[0])],
    )
    with pytest.raises(SettingsError, match=f"CocoRegions: ann_file='.*a.json' has {message}"):
        CocoRegions(path)


# ---- all of them --------------------------------------------------------------------------


def test_every_source_is_seen_through_the_views_geometry(tmp_path, image_folder, labels):
    """As from cropping and flipping the map itself."""
    np.savez(image_folder / 'a.npz', labels)
    sources = [
        LabelFiles('.npz'),
        SegmenterRegions(long_side=120, min_size=20),
        CocoRegions(write_json(tmp_path / 'a.json')),
    ]
    affine = torch.from_numpy(crop_affine(30 / 120, 10 / 90, 64 / 120, 64 / 90, True))
    for source in sources:
        ids = torch.from_numpy(np.asarray(source(record(image_folder, 'a.png'))).astype(np.int64))
        assert torch.equal(region_map_of_view(ids, affine, 64), ids[10:74, 30:94].flip(1))
