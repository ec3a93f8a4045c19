"""Views of rasters: float32 throughout, alike for parts and wholes; windows of large images."""

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from plrc_plugin.datasets import ImageWindows, collate_views
from plrc_plugin.errors import SettingsError
from plrc_plugin.models.views_preprocessor import ViewsPreprocessor
from plrc_plugin.randomness import SampleKey
from plrc_plugin.registry import DATASETS
from plrc_plugin.views import GaussianNoise, LevelJitter, TwoViews, WholeImage
from plrc_plugin.views.photometric import GaussianBlur

KEY = SampleKey(0, 0, 0)


@pytest.fixture
def bands(tmp_path):
    values = np.random.default_rng(0).integers(0, 60000, (300, 400, 5), dtype=np.uint16)
    tifffile.imwrite(tmp_path / 'a.tif', values, photometric='minisblack', planarconfig='contig',
                     tile=(64, 64), compression='zlib')  # fmt: skip
    return str(tmp_path / 'a.tif'), values


def views_of(path, key=KEY, **settings):
    step = TwoViews(**{'size': 48, 'channels': 5, 'window': (0, 60000), **settings})
    return step(dict(img_path=path, sample_key=key))


def triangles(length, size, shrinks):
    """(size, length) weights of bilinear resizing, as wide as the new pixels where it shrinks."""
    step = length / size
    width = step if shrinks else 1
    centres = (np.arange(size) + 0.5) * step
    if not shrinks:  # beyond the last centres the outermost pixel goes on
        centres = centres.clip(0.5, length - 0.5)
    weights = (1 - abs(centres[:, None] - np.arange(length) - 0.5) / width).clip(0)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize('scale', [(0.01, 0.02), (0.3, 1)])
def test_a_view_is_the_crop_in_double_precision(bands, scale):
    path, values = bands
    sample = views_of(path, photometric=[], scale=scale)
    for view in sample['views']:
        assert view.pixels.shape == (48, 48, 5) and view.pixels.dtype == np.float32
        (a, _, c), (_, e, f) = view.affine
        left, top = round((c + min(a, 0)) * 400), round(f * 300)
        width, height = round(abs(a) * 400), round(e * 300)
        crop = values[top : top + height, left : left + width] / 60000 * 255
        shrinks = width > 48 and height > 48
        rows, columns = triangles(height, 48, shrinks), triangles(width, 48, shrinks)
        expected = np.einsum('ih,hwc,jw->ijc', rows, crop.astype(np.float64), columns)
        if a < 0:
            expected = expected[:, ::-1]
        np.testing.assert_allclose(view.pixels, expected, atol=1e-3)


def test_three_channels_of_8_bits_are_where_the_bytes_are(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / 'a.png')
    path = str(tmp_path / 'a.png')
    fine = views_of(path, channels=3, window=(0, 255), photometric=[])['views']
    plain = views_of(path, channels=None, window=None, photometric=[])['views']
    for a, b in zip(fine, plain):
        assert b.pixels.dtype == np.uint8
        assert np.array_equal(a.affine, b.affine)
        height, width = photo.shape[:2]
        shrinks = abs(a.affine[0, 0]) * width > 48 and a.affine[1, 1] * height > 48
        # That one is rounded, and where it shrinks once more between its two directions.
        assert np.abs(a.pixels - b.pixels).max() <= (1.01 if shrinks else 0.51)


def test_the_default_steps_know_no_hue_and_are_functions_of_the_key(bands):
    path, _ = bands
    assert list(TwoViews(channels=5, window=(0, 1)).steps) == [
        'LevelJitter', 'GaussianBlur', 'GaussianNoise']  # fmt: skip
    assert list(TwoViews().steps) == ['ColorJitter', 'Greyscale', 'GaussianBlur']
    first, again = views_of(path), views_of(path)
    other = views_of(path, SampleKey(0, 1, 0))
    for a, b, c in zip(first['views'], again['views'], other['views']):
        assert np.array_equal(a.pixels, b.pixels) and not np.array_equal(a.pixels, c.pixels)
        assert a.pixels.min() >= 0 and a.pixels.max() <= 255


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
@pytest.mark.parametrize('channels', [1, 5])
@pytest.mark.parametrize('step', [LevelJitter(prob=1), GaussianNoise(prob=1), GaussianBlur(prob=1)])
def test_steps_keep_shape_type_and_range(step, channels, dtype):
    image = np.random.default_rng(0).uniform(0, 255, (20, 20, channels)).astype(dtype)
    before = image.copy()
    changed = step.apply(image, step.draw(np.random.default_rng(1)))
    assert changed.shape == image.shape and changed.dtype == dtype
    assert np.array_equal(image, before) and not np.array_equal(changed, image)
    assert changed.min() >= 0 and changed.max() <= 255


def test_level_jitter_is_what_it_says():
    image = np.random.default_rng(0).uniform(90, 110, (30, 30, 4)).astype(np.float32)
    brighter = LevelJitter(brightness=0.3, contrast=0, channel=0, prob=1)
    drawn = brighter.draw(np.random.default_rng(3))
    np.testing.assert_allclose(brighter.apply(image, drawn), image * drawn.factors[0], rtol=1e-4)
    flatter = LevelJitter(brightness=0, contrast=0.5, channel=0, prob=1)
    drawn = flatter.draw(np.random.default_rng(3))
    expected = (image - image.mean()) * drawn.contrast + image.mean()
    np.testing.assert_allclose(flatter.apply(image, drawn), expected, rtol=1e-4)


@pytest.mark.parametrize('make', [
    lambda: LevelJitter(brightness=-1), lambda: LevelJitter(prob=2), lambda: GaussianNoise((2, 1)),
    lambda: GaussianNoise(prob='x'), lambda: LevelJitter(channel=float('inf')),
    lambda: TwoViews(channels=0, window=(0, 1)), lambda: TwoViews(channels=2.0, window=(0, 1)),
    lambda: TwoViews(channels=2, window=(0, 1), jitter=(0, 0, 0, 0)),
    lambda: TwoViews(max_pixels=0), lambda: WholeImage(channels=4),
    lambda: ImageWindows(dict(type='x', pipeline=[1])), lambda: ImageWindows([], side=0),
])  # fmt: skip
def test_settings_that_cannot_work_are_one_line(make):
    with pytest.raises(SettingsError) as error:
        make()
    assert '\n' not in str(error.value)


def test_the_preprocessor_leaves_its_input_and_takes_any_channels():
    trunk = torch.nn.Conv2d(5, 8, 3)
    for channels_last in (False, True):
        preprocessor = ViewsPreprocessor(channels_last=channels_last)
        preprocessor.follow(trunk)
        pixels = torch.rand(2, 6, 6, 5) * 255
        before = pixels.clone()
        images = preprocessor.normalise(pixels)
        assert torch.equal(pixels, before)
        torch.testing.assert_close(images, (before.permute(0, 3, 1, 2) - 114.495) / 57.63)
    with pytest.raises(SettingsError, match='has 3 values, and the trunk takes 5'):
        ViewsPreprocessor(mean=[1.0, 2.0, 3.0]).follow(trunk)
    with pytest.raises(SettingsError, match="order='BGR'"):
        ViewsPreprocessor(order='BGR').follow(trunk)
    ViewsPreprocessor(mean=[100.0], std=[50.0]).follow(trunk)


def test_a_whole_image_of_bands(bands):
    path, values = bands
    pixels = WholeImage(40, (0, 60000), 5)(dict(img_path=path))['pixels']
    assert pixels.shape == (40, 40, 5) and pixels.dtype == np.float32
    expected = cv2.resize(
        np.ascontiguousarray(values[..., 4] / 60000 * 255), (40, 40), interpolation=cv2.INTER_AREA
    )
    np.testing.assert_allclose(pixels[..., 4], expected, atol=1e-3)


# ------------------------------------------------------------------ windows of large images


@pytest.fixture
def folder(tmp_path):
    """Two images: 8 bits of 600 x 400 in tiles, each pixel its place, and 100 x 100."""
    y, x = np.mgrid[:400, :600]
    values = np.stack([x % 256, y % 256, (x // 256) * 16 + y // 256], 2).astype(np.uint8)
    (tmp_path / 'large').mkdir()
    tifffile.imwrite(tmp_path / 'large' / 'a.tif', values, photometric='rgb', tile=(64, 64),
                     compression='zlib')  # fmt: skip
    Image.fromarray(values[:100, :100]).save(tmp_path / 'large' / 'b.png')
    return tmp_path / 'large'


def windows_of(folder, side=100, **settings):
    step = dict(type='plrc_plugin.TwoViews', size=24, photometric=[], flip_prob=0.0, **settings)
    return ImageWindows(
        dict(type='plrc_plugin.ImageFolder', data_root=str(folder)),
        [step, dict(type='plrc_plugin.SampleRegionPoints', resolution=8)],
        side,
    )


def test_images_count_by_their_area_and_every_place_is_seen(folder):
    windows = windows_of(folder)
    assert len(windows) == 6 * 4 + 1
    seen = np.zeros((400, 600), int)
    for epoch in range(60):
        areas = [windows.locate(SampleKey(0, epoch, i), i) for i in range(24)]
        assert [part for _, part, _ in areas] == list(range(24))
        for _, _, (left, top, width, height) in areas:
            assert (width, height) == (100, 100) and left + width <= 600 and top + height <= 400
            seen[top : top + height, left : left + width] += 1
    assert seen[40:-40, 40:-40].min() > 0
    inner = seen[100:300, 100:500]
    assert inner.max() < 2.5 * inner.min(), 'evenly, away from the borders'
    assert windows.locate(SampleKey(0, 3, 24), 24) == (1, 0, (0, 0, 100, 100))


def test_views_of_a_window_are_of_its_place(folder):
    windows = windows_of(folder)
    sample = windows[SampleKey(0, 1, 13)]
    left, top, width, height = sample['area']
    assert sample['size'] == (width, height) == (100, 100)
    for view in sample['views']:
        (a, _, c), (_, e, f) = view.affine
        middle = view.pixels[11:13, 11:13].astype(float).mean((0, 1))
        x, y = left + 100 * (c + a / 2) - 0.5, top + 100 * (f + e / 2) - 0.5
        wraps = min(x % 256, 256 - x % 256, y % 256, 256 - y % 256) < 60
        assert wraps or abs(middle[:2] - (x % 256, y % 256)).max() < 1.5
    again = windows_of(folder)[SampleKey(0, 1, 13)]
    assert np.array_equal(sample['views'][0].pixels, again['views'][0].pixels)
    assert sample['views'][0].pixels.dtype == np.uint8


def test_parts_of_an_image_are_images_of_their_own_in_a_batch(folder):
    windows = windows_of(folder)
    batch = collate_views([windows[SampleKey(0, 0, i)] for i in (0, 1, 24)])
    later = collate_views([windows[SampleKey(0, 5, i)] for i in (0, 1, 24)])
    ids = batch['query'].image_ids
    assert len(set(ids.tolist())) == 3 and torch.equal(ids, later['query'].image_ids)


def test_labels_of_the_whole_image_are_cut_to_the_part(folder, tmp_path):
    labels = np.arange(400 * 600, dtype=np.int32).reshape(400, 600)
    np.savez(folder / 'a.npz', labels)
    np.savez(folder / 'b.npz', labels[:100, :100])
    windows = windows_of(folder)
    windows.pipeline.transforms[1].regions = __import__(
        'plrc_plugin.regions', fromlist=['LabelFiles']
    ).LabelFiles('.npz')
    windows.pipeline.transforms[1].keep_region_map = True
    sample = windows[SampleKey(0, 1, 13)]
    left, top, width, height = sample['area']
    ids = sample['region_points'][0].region_map.numpy()
    rows, columns = ids // 600, ids % 600
    assert left <= columns.min() and columns.max() < left + width
    assert top <= rows.min() and rows.max() < top + height


def test_a_broken_image_is_replaced_by_another_part(folder):
    (folder / 'c.tif').write_bytes((folder / 'a.tif').read_bytes()[:2000])
    windows = windows_of(folder)
    assert len(windows) > 25
    sample = windows[SampleKey(0, 0, len(windows) - 1)]
    assert {path for path, _ in sample['skipped']} == {str(folder / 'c.tif')}
    assert sample['img_path'] != str(folder / 'c.tif')


def test_an_image_that_shrinks_after_the_start_is_noticed(folder):
    windows = windows_of(folder)
    assert len(windows) == 25
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save(folder / 'a.tif')
    sample = windows[SampleKey(0, 0, 20)]
    assert 'it has changed' in sample['skipped'][0][1]


def test_a_loader_hands_the_key_through(folder):
    from plrc_plugin.datasets.keyed_loader import keyed_loader

    loader = dict(dataset=dict(type='plrc_plugin.ImageWindows', side=100, pipeline=[],
                               dataset=dict(type='plrc_plugin.ImageFolder', data_root=str(folder))),
                  sampler=dict(type='DefaultSampler', shuffle=True))  # fmt: skip
    keyed = keyed_loader(loader)
    dataset = DATASETS.build(keyed['dataset'])
    assert isinstance(dataset, ImageWindows)
    assert dataset[SampleKey(3, 2, 1)]['sample_key'] == SampleKey(3, 2, 1)
    with pytest.raises(SettingsError, match='came without seed and epoch'):
        dataset[0]
