"""Every kind of image file becomes upright 8-bit RGB, or a clear error."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from plrc_plugin.images.decoding import DecodingError, ImageFile, read_image


def save(path, image, **kwargs):
    image.save(path, **kwargs)
    return path


@pytest.fixture
def picture(photo):
    return Image.fromarray(photo)


@pytest.mark.parametrize(
    'name, kwargs, tolerance',
    [
        ('a.jpg', dict(quality=98, subsampling=0), 8),
        ('a.png', {}, 0),
        ('a.webp', dict(lossless=True), 0),
        ('a.bmp', {}, 0),
        ('a.tiff', {}, 0),
        ('a.ppm', {}, 0),
    ],
)
def test_formats(tmp_path, picture, photo, name, kwargs, tolerance):
    got = read_image(save(tmp_path / name, picture, **kwargs))
    assert got.shape == photo.shape and got.dtype == np.uint8
    assert np.abs(got.astype(int) - photo).max() <= tolerance


@pytest.mark.parametrize('mode', ['L', 'P', '1', 'LA', 'RGBA', 'CMYK'])
def test_modes_equal_pillows_rgb(tmp_path, picture, mode):
    image = picture.convert(mode)
    path = save(tmp_path / f'a.{"tiff" if mode == "CMYK" else "png"}', image)
    assert np.array_equal(read_image(path), np.asarray(image.convert('RGB')))


def test_cmyk_jpeg(tmp_path, picture, photo):
    got = read_image(save(tmp_path / 'a.jpg', picture.convert('CMYK'), quality=98))
    assert np.abs(got.astype(int) - photo).mean() < 6


@pytest.mark.parametrize('kind, copies', [(np.uint16, 3.5), (np.int32, 6.5)])
def test_large_sixteen_bit_images_are_not_copied_to_64_bits(kind, copies, tmp_path):
    """At most the decoded copy, one of 16 bits and those of 8: the largest allowed have 179 MP."""
    values = np.arange(10**6).reshape(1000, 1000).__mod__(2**16).astype(kind)
    import tifffile  # noqa: F401  not in the midst of counting

    Image.fromarray(values).save(tmp_path / 'a.tif')
    tracemalloc.start()
    image = read_image(tmp_path / 'a.tif')
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(image[..., 1], values >> 8)
    assert peak < (copies + 3) * values.size


def test_sixteen_bit_grey_keeps_the_upper_byte(tmp_path, photo):
    values = photo[..., 0].astype(np.uint16) * 256 + 77
    got = read_image(save(tmp_path / 'a.png', Image.fromarray(values)))
    assert np.array_equal(got, np.repeat(photo[..., :1], 3, 2))


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'webp', 'tiff'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation(tmp_path, photo, suffix, orientation):
    """Undoing the camera's orientation restores the upright picture, for all eight codes."""
    camera = {
        1: lambda x: x,
        2: np.fliplr,
        3: lambda x: np.rot90(x, 2),
        4: np.flipud,
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x, 1),
        7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
        8: lambda x: np.rot90(x, -1),
    }
    stored = Image.fromarray(np.ascontiguousarray(camera[orientation](photo)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f'a.{suffix}', stored, exif=exif)
    file = ImageFile(path)
    assert file.size == (120, 90)
    got = file.decode()
    assert got.shape == photo.shape
    assert np.abs(got.astype(int) - photo).mean() < 4


def test_first_frame_of_an_animation(tmp_path, picture):
    frames = [picture.quantize(), Image.new('P', picture.size)]
    path = save(tmp_path / 'a.gif', frames[0], save_all=True, append_images=frames[1:])
    assert np.array_equal(read_image(path), np.asarray(frames[0].convert('RGB')))


@pytest.mark.parametrize('orientation', [1, 6])
@pytest.mark.parametrize(
    'wanted, expected',
    [
        ((800, 600), (800, 600)),
        ((400, 300), (400, 300)),
        ((399, 299), (400, 300)),
        ((401, 300), (800, 600)),
        ((90, 70), (100, 75)),
        ((1, 1), (100, 75)),
    ],
)
def test_jpegs_are_decoded_no_larger_than_needed(tmp_path, picture, orientation, wanted, expected):
    image = picture.resize((800, 600))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = image.transpose(Image.Transpose.ROTATE_90) if orientation == 6 else image
    path = save(tmp_path / 'a.jpg', stored, quality=95, exif=exif)
    small = ImageFile(path).decode(size_at_least=wanted)
    assert small.shape[1::-1] == expected
    reference = np.asarray(image.resize(expected, Image.Resampling.BOX))
    assert np.abs(small.astype(int) - reference).mean() < 3


@pytest.mark.parametrize(
    'size, wanted, expected',
    [
        ((501, 375), (240, 180), (251, 188)),
        ((501, 375), (60, 40), (63, 47)),
        ((333, 1001), (40, 120), (42, 126)),
    ],
)
def test_odd_sizes_are_decoded_small_too(tmp_path, picture, size, wanted, expected):
    path = save(tmp_path / 'a.jpg', picture.resize(size))
    assert ImageFile(path).decode(size_at_least=wanted).shape[1::-1] == expected


@pytest.mark.parametrize(
    'content, reason',
    [(b'', 'not an image'), (b'hello', 'not an image'), (b'\xff\xd8\xff\xe0', 'not an image')],
)
def test_no_image(tmp_path, content, reason):
    path = tmp_path / 'a.jpg'
    path.write_bytes(content)
    with pytest.raises(DecodingError, match=reason) as error:
        read_image(path)
    assert error.value.path == str(path)


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'webp'])
def test_truncated_files_are_errors_not_grey_pictures(tmp_path, picture, suffix):
    path = save(tmp_path / f'a.{suffix}', picture)
    path.write_bytes(path.read_bytes()[: -len(path.read_bytes()) // 3])
    with pytest.raises(DecodingError, match=str(path)):
        read_image(path)


def test_missing_file_and_decompression_bomb(tmp_path, monkeypatch, picture):
    with pytest.raises(DecodingError, match='FileNotFoundError'):
        ImageFile(tmp_path / 'none.png')
    path = save(tmp_path / 'a.png', picture)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    with pytest.raises(DecodingError, match='DecompressionBomb'):
        ImageFile(path)
