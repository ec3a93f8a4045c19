"""More than 8 bits a channel: right by one window for all images, or refused with the remedy."""

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from plrc_plugin.errors import SettingsError
from plrc_plugin.images.decoding import DecodingError, ImageFile, read_image
from plrc_plugin.randomness import SampleKey
from plrc_plugin.views.two_views import TwoViews


def scaled(values, low, high):
    exact = (np.asarray(values, float) - low) / (high - low) * 255
    return exact.clip(0, 255).round().astype(np.uint8)


RAMP = np.arange(48 * 64).reshape(48, 64)
FILES = {  # name: values as stored, a window
    'twelve.png': ((RAMP % 4096).astype(np.uint16), (0, 4095)),
    'satellite.tif': ((RAMP % 3000).astype(np.uint16), (100, 2500)),
    'signed.tif': ((RAMP - 1024).astype(np.int16), (-1000, 1500)),
    'thirty_two.tif': ((RAMP * 100).astype(np.uint32), (0, 300000)),
    'float.tif': ((RAMP / 3072).astype(np.float32), (0, 1)),
    'double.tif': ((RAMP / 3072 - 0.5).astype(np.float64), (-0.5, 0.5)),
}


def write(path, values, **options):
    if path.suffix == '.png':
        cv2.imwrite(str(path), values[..., ::-1] if values.ndim == 3 else values)
    else:
        tifffile.imwrite(path, values, **options)
    return str(path)


@pytest.mark.parametrize('name', FILES)
def test_a_window_keeps_the_levels(name, tmp_path):
    values, window = FILES[name]
    path = write(tmp_path / name, values)
    image = read_image(path, window)
    assert image.shape == (48, 64, 3) and image.dtype == np.uint8
    assert np.array_equal(image, np.repeat(scaled(values, *window)[..., None], 3, 2))
    assert ImageFile(path, window).size == (64, 48)


@pytest.mark.parametrize('name', FILES)
def test_without_a_window_it_is_refused_with_range_and_remedy(name, tmp_path):
    values, _ = FILES[name]
    path = write(tmp_path / name, values)
    with pytest.raises(
        DecodingError, match=r'more than 8 bits .* set window=\(low, high\)'
    ) as error:
        read_image(path)
    assert f'{values.max():g}' in error.value.reason and str(values.dtype) in error.value.reason


@pytest.mark.parametrize('layout', ['png', 'contig', 'separate'])
@pytest.mark.parametrize('channels', [3, 4])
def test_sixteen_bits_of_colour(layout, channels, tmp_path):
    """Also by planes, which Pillow reads as noise, and of 12 bits, which it makes black."""
    values = np.stack([(RAMP * (i + 1)) % 4096 for i in range(channels)], 2).astype(np.uint16)
    if layout == 'png':
        swapped = values[..., [2, 1, 0, *range(3, channels)]]
        path = str(tmp_path / 'a.png')
        cv2.imwrite(path, swapped)
    else:
        stored = values if layout == 'contig' else np.moveaxis(values, 2, 0)
        path = write(tmp_path / 'a.tif', stored, photometric='rgb', planarconfig=layout)
    assert np.array_equal(read_image(path, (0, 4095)), scaled(values[..., :3], 0, 4095))
    with pytest.raises(DecodingError, match='set window'):
        read_image(path)
    full = values << 4
    if layout == 'png':
        cv2.imwrite(path, swapped << 4)
        assert np.array_equal(read_image(path), (full[..., :3] >> 8).astype(np.uint8))


def test_of_many_bands_the_shape_is_named(tmp_path):
    path = write(
        tmp_path / 'a.tif',
        np.zeros((8, 9, 5), np.uint16),
        photometric='minisblack',
        planarconfig='contig',
    )
    with pytest.raises(DecodingError, match=r'shape \(8, 9, 5\): images of 1 channel, or of 3'):
        read_image(path, (0, 1))


def test_all_images_get_the_same_window(tmp_path):
    """A darker image stays darker, in the views that a network sees."""
    means = []
    for name, factor in (('dark', 1), ('bright', 3)):
        values = np.full((40, 40), 1000 * factor, np.uint16)
        path = write(tmp_path / f'{name}.png', values)
        transform = TwoViews(size=16, window=(0, 4000), photometric=[])
        views = transform(dict(img_path=path, sample_key=SampleKey(0, 0, 0)))['views']
        means.append(views[0].pixels.mean())
    assert means == [64, 191]


def test_not_a_number_becomes_black(tmp_path):
    values = np.ones((8, 8), np.float32)
    values[0] = np.nan
    image = read_image(write(tmp_path / 'a.tif', values), (0, 1))
    assert (image[0] == 0).all() and (image[1:] == 255).all()


def test_orientation(tmp_path):
    values = np.arange(12).reshape(3, 4).astype(np.uint16) * 300
    tifffile.imwrite(tmp_path / 'a.tif', values, extratags=[(274, 'H', 1, 6, True)])
    expected = scaled(np.rot90(values, -1), 0, 4000)
    assert np.array_equal(read_image(tmp_path / 'a.tif', (0, 4000))[..., 0], expected)


def test_eight_bits_take_no_window(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / 'a.tif')
    assert np.array_equal(read_image(tmp_path / 'a.tif', (0, 4000)), photo)


@pytest.mark.parametrize('window', [(1, 1), (5, 2), (1,), 'ab', 7])
def test_windows_that_cannot_work(window):
    with pytest.raises(SettingsError, match='TwoViews: window must be two numbers'):
        TwoViews(window=window)
