"""JPEG files without Pillow: its pixels to the bit, and its decisions on damaged files."""

import io
import random

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from plrc_plugin.images import decoding, jpeg
from plrc_plugin.images.decoding import DecodingError, read_image


# simplejpeg is an extra, and one of 'tests'.
@pytest.fixture(params=['opencv'] + ['simplejpeg'] * (jpeg.simplejpeg is not None))
def decoder(request, monkeypatch):
    """Each library that decodes."""
    if request.param == 'opencv':
        monkeypatch.setattr(jpeg, 'simplejpeg', None)


def saved(photo, **kwargs) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(photo)
    image.convert(kwargs.pop('mode', 'RGB')).resize(kwargs.pop('size', (203, 150))).save(
        file, 'JPEG', **kwargs
    )
    return file.getvalue()


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = 'of a long enough name', orientation
    return exif


PLAIN = dict(
    subsampled=dict(quality=75),
    full_colour=dict(quality=98, subsampling=0),
    half=dict(subsampling=1),
    grey=dict(mode='L'),
    progressive=dict(progressive=True),
    progressive_grey=dict(progressive=True, mode='L'),
    restarts=dict(restart_marker_blocks=3),
    restarts_in_rows=dict(restart_marker_rows=1, progressive=True),
    comment=dict(comment=b'\xff\xda and more'),
    profile=dict(icc_profile=bytes(range(256)) * 300),
    density=dict(dpi=(72, 72)),
    optimised=dict(optimize=True),
    tiny=dict(size=(1, 1)),
    row=dict(size=(333, 1)),
    column=dict(size=(1, 77)),
    **{f'orientation {i}': dict(exif=exif_of(i)) for i in range(1, 10)},
)


@pytest.mark.parametrize('reduction', [1, 2, 4, 8])
@pytest.mark.parametrize('kind', PLAIN)
def test_pixels_equal_pillows_to_the_bit(decoder, photo, kind, reduction):
    data = saved(photo, **PLAIN[kind])
    header = jpeg.read_header(data)
    image = Image.open(io.BytesIO(data))
    assert header is not None and header.size == image.size
    image.draft(None, tuple(max(side // reduction, 1) for side in image.size))
    if image.size == tuple(-(-side // reduction) for side in header.size):
        expected = np.asarray(ImageOps.exif_transpose(image).convert('RGB'))
        assert np.array_equal(jpeg.decode(data, header, reduction), expected)
    else:  # Pillow does not reduce an image of one pixel
        assert min(header.size) < reduction


def xmp(orientation):
    return f'<x tiff:Orientation="{orientation}"/>'.encode()


@pytest.mark.parametrize('start', ['Exif', 'XMP alone', 'both'])
def test_orientation_is_pillows_where_there_is_xmp(tmp_path, photo, start):
    exif = exif_of(6) if start != 'XMP alone' else None
    data = saved(photo, exif=exif or b'', xmp=xmp(8) if start != 'Exif' else None)
    (tmp_path / 'a.jpg').write_bytes(data)
    file = decoding.ImageFile(tmp_path / 'a.jpg')
    assert file.orientation == Image.open(io.BytesIO(data)).getexif()[0x0112]
    assert file.size == (150, 203) and file.decode().shape[:2] == (203, 150)


@pytest.mark.parametrize('order', ['<', '>'])
def test_orientation_in_either_byte_order(photo, order):
    exif = exif_of(3)
    exif.endian = order
    assert jpeg.read_header(saved(photo, exif=exif)).orientation == 3


def several(photo) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(photo)
    image.save(file, 'MPO', save_all=True, append_images=[image])
    return file.getvalue()


@pytest.mark.parametrize(
    'make',
    [
        lambda photo: saved(photo, mode='CMYK'),
        lambda photo: saved(photo, exif=b'Exif\0\0' + b'neither byte order'),
        several,
        lambda photo: b'\x89PNG and more',
        lambda photo: b'',
        lambda photo: saved(photo)[:100],
        lambda photo: b'\xff\xd8\xff' + saved(photo)[2:],
    ],
)
def test_what_is_not_plain_is_left_to_pillow(photo, make):
    assert jpeg.read_header(make(photo)) is None


def test_bombs_are_left_to_pillow(photo, monkeypatch, tmp_path):
    data = saved(photo)
    (tmp_path / 'a.jpg').write_bytes(data)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', None)
    assert jpeg.read_header(data)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 203 * 150 // 2 - 1)
    assert jpeg.read_header(data) is None
    with pytest.raises(DecodingError, match='DecompressionBomb'):
        read_image(tmp_path / 'a.jpg')


def overwritten(data, chance):
    at = chance.randrange(2, len(data) - 20)
    return data[:at] + chance.randbytes(20) + data[at + 20 :]


def overwritten_header(data, chance):
    at = chance.randrange(2, 640)
    return data[:at] + chance.randbytes(chance.randrange(1, 8)) + data[at + 8 :]


def with_a_marker(data, chance):
    at = chance.randrange(700, len(data) - 20)
    return data[:at] + bytes([0xFF, chance.randrange(256)]) + data[at + 2 :]


def cut_off(data, chance):
    return data[: chance.randrange(1, len(data))]


def without_its_end(data, chance):
    return data[: -chance.randrange(1, 3)]


@pytest.mark.parametrize('kind', ['subsampled', 'progressive', 'restarts', 'orientation 1'])
@pytest.mark.parametrize(
    'damage', [overwritten, overwritten_header, with_a_marker, cut_off, without_its_end]
)
def test_pillow_decides_what_damage_is_refused(decoder, tmp_path, photo, kind, damage):
    """And where it makes something of a damaged file, the same is made here."""
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    data, chance, path = saved(photo, **PLAIN[kind]), random.Random(0), tmp_path / 'a.jpg'
    refused = 0
    for _ in range(25):
        path.write_bytes(damage(data, chance))
        try:
            expected = np.asarray(Image.open(path, formats=['JPEG', 'MPO']).convert('RGB'))
        except Exception:
            refused += 1
            with pytest.raises(DecodingError):
                read_image(path)
        else:
            if Image.open(path).getexif().get(0x0112, 1) == 1:
                assert np.array_equal(read_image(path), expected)
    assert refused or damage is overwritten
