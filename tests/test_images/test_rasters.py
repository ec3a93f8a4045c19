"""Rasters of any depth and number of channels, against the libraries that write and read them."""

import io
import struct

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from plrc_plugin.errors import SettingsError
from plrc_plugin.images.decoding import DecodingError, ImageFile, read_image
from plrc_plugin.images.rasters import RasterFile, Reading, open_raster, read_raster

RNG = np.random.default_rng(0)
LIMITS = {'uint16': (0, 65535), 'int16': (-32768, 32767), 'uint8': (0, 255), 'float32': (-2, 3),
          'int32': (-(2**31), 2**31 - 1), 'float64': (-2, 3)}  # fmt: skip


def values_of(dtype, channels, height=90, width=130):
    low, high = LIMITS[dtype]
    return RNG.uniform(low, high, (height, width, channels)).astype(dtype)


def expected(values, low, high):
    """In double precision, as the documentation says."""
    return ((values.astype(np.float64) - low) / (high - low) * 255).clip(0, 255)


def reading(channels, *window):
    return Reading.of('test', channels, window or (0, 65535))


def write(path, values, layout, **options):
    """A TIFF in one of the layouts below."""
    stored = values
    if layout.startswith('planes'):
        stored, options['planarconfig'] = np.moveaxis(values, 2, 0), 'separate'
    elif values.shape[2] > 1:
        options['planarconfig'] = 'contig'
    if 'tiles' in layout:
        options['tile'] = (32, 48)
    if 'strips' in layout:
        options['rowsperstrip'] = 7
    if 'deflate' in layout:
        options.update(compression='zlib', predictor=values.dtype.kind != 'f')
    if 'lzw' in layout:
        pytest.importorskip('imagecodecs', reason='needs imagecodecs: the extra rasters')
        options['compression'] = 'lzw'
    if 'big' in layout:
        options['bigtiff'] = True
    if 'endian' in layout:
        options['byteorder'] = '>'
    if stored.shape[-1] == 1:
        stored = stored[..., 0]
    tifffile.imwrite(path, stored, photometric='minisblack', **options)
    return path


LAYOUTS = ['whole', 'strips', 'tiles', 'planes', 'planes tiles', 'tiles deflate big', 'endian',
           'planes strips deflate', 'tiles lzw', 'planes tiles deflate endian']  # fmt: skip


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('dtype', LIMITS)
@pytest.mark.parametrize('channels', [1, 3, 5, 16])
def test_tiff_of_every_layout_and_every_part_of_it(layout, dtype, channels, tmp_path):
    if channels == 1 and 'planes' in layout:
        pytest.skip('one channel has no planes')
    values = values_of(dtype, channels)
    path = write(tmp_path / 'a.tif', values, layout)
    raster = open_raster(path)
    assert raster.size == (130, 90) and raster.channels == channels
    assert raster.dtype == values.dtype
    assert np.array_equal(raster.read(), values)
    for left, top, width, height in [(0, 0, 1, 1), (5, 9, 60, 50), (129, 89, 1, 1), (47, 31, 2, 2)]:
        part = open_raster(path).read((left, top, width, height))
        assert np.array_equal(part, values[top : top + height, left : left + width])
    with open(path, 'rb') as file:
        assert np.array_equal(open_raster(file.read()).read(), values), 'from memory'


@pytest.mark.parametrize('dtype', LIMITS)
def test_scaling_keeps_the_precision(dtype, tmp_path):
    values, (low, high) = values_of(dtype, 2), LIMITS[dtype]
    low, high = low + (high - low) * 0.1, high - (high - low) * 0.2
    path = write(tmp_path / 'a.tif', values, 'tiles')
    pixels = read_raster(path, reading(2, low, high))
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, expected(values, low, high), rtol=0, atol=1e-4)
    if dtype != 'uint8':  # thousands of levels between two of 8 bits
        assert len(np.unique(pixels)) > 5000


def test_every_channel_has_a_window_of_its_own(tmp_path):
    values = values_of('uint16', 3)
    path = write(tmp_path / 'a.tif', values, 'whole')
    windows = ((0, 65535), (100, 20000), (30000, 30001))
    pixels = read_raster(path, Reading.of('test', 3, windows))
    for c, window in enumerate(windows):
        np.testing.assert_allclose(pixels[..., c], expected(values[..., c], *window), atol=1e-3)


def test_narrow_windows_of_wide_integers(tmp_path):
    values = (2**31 - 1 - np.arange(64, dtype=np.int64).reshape(8, 8, 1)).astype(np.int32)
    path = write(tmp_path / 'a.tif', values, 'whole')
    window = 2**31 - 65, 2**31 - 1
    pixels = read_raster(path, reading(1, *window))
    np.testing.assert_allclose(pixels, expected(values, *window), atol=1e-3)


def test_what_is_not_a_number_or_not_measured_is_zero(tmp_path):
    values = np.array([[np.nan, np.inf, -np.inf, 0.5, -9999, 2]], np.float32)
    path = tmp_path / 'a.tif'
    tifffile.imwrite(path, values, extratags=[(42113, 's', 0, '-9999', True)])
    assert read_raster(path, reading(1, 0, 1)).ravel().tolist() == [0, 255, 0, 127.5, 0, 255]
    tifffile.imwrite(path, values, photometric='miniswhite',
                     extratags=[(42113, 's', 0, '-9999', True)])  # fmt: skip
    assert read_raster(path, reading(1, 0, 1)).ravel().tolist() == [0, 0, 255, 127.5, 0, 0]


def test_twelve_bits_in_sixteen(tmp_path):
    values = (values_of('uint16', 1) & 4095).astype(np.uint16)
    path = write(tmp_path / 'a.tif', values, 'strips')
    pixels = read_raster(path, reading(1, 0, 4095))
    np.testing.assert_allclose(pixels, values / 4095 * 255, atol=1e-4)


def test_twelve_bits_packed(tmp_path):
    pytest.importorskip('imagecodecs', reason='needs imagecodecs: the extra rasters')
    values = (values_of('uint16', 1, 8, 16) & 4095).astype(np.uint16)
    flat = values.ravel().astype(np.uint32)
    packed = bytearray()
    for a, b in flat.reshape(-1, 2).tolist():
        packed += bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255])
    tags = [(256, 16), (257, 8), (258, 12), (259, 1), (262, 1), (273, 0), (277, 1), (278, 8),
            (279, len(packed))]  # fmt: skip
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b''.join(struct.pack('<HHII', t, 4, 1, start if t == 273 else v) for t, v in tags)
    content = struct.pack('<2sHIH', b'II', 42, 8, len(tags)) + entries + b'\0' * 4 + bytes(packed)
    raster = open_raster(content)
    assert raster.limits == (0, 4095)
    assert np.array_equal(raster.read(), values)


@pytest.mark.parametrize('tiles', [dict(), dict(tile=(32, 32), compression='zlib')])
def test_white_is_zero(tiles, tmp_path):
    """As Pillow shows it; a window is of the stored values."""
    values = values_of('uint8', 1)[..., 0]
    path = tmp_path / 'a.tif'
    tifffile.imwrite(path, values, photometric='miniswhite', **tiles)
    assert np.array_equal(read_raster(path, reading(3, 0, 255)), read_image(path))
    assert np.array_equal(RasterFile(path).decode()[:, :], read_image(path))
    deep = (values.astype(np.uint16) * 10).astype(np.uint16)
    tifffile.imwrite(path, deep, photometric='miniswhite')
    pixels = read_raster(path, reading(1, 0, 2550))
    np.testing.assert_allclose(pixels[..., 0], 255.0 - values, atol=1e-4)


def test_palettes_become_colours(tmp_path):
    values = values_of('uint8', 1)[..., 0]
    colours = RNG.integers(0, 65536, (3, 256), dtype=np.uint16)
    path = tmp_path / 'a.tif'
    tifffile.imwrite(path, values, photometric='palette', colormap=colours)
    assert np.array_equal(read_raster(path, reading(3, 0, 255)), read_image(path))
    Image.fromarray(values).convert('P').save(tmp_path / 'b.png')
    with Image.open(tmp_path / 'b.png') as image:
        rgb = np.asarray(image.convert('RGB'))
    assert np.array_equal(read_raster(tmp_path / 'b.png', reading(3, 0, 255)), rgb)


@pytest.mark.parametrize('mode', ['CMYK', 'LAB', 'YCbCr'])
def test_other_colour_spaces_of_8_bits_are_as_pillow_makes_them(mode, photo, tmp_path):
    Image.fromarray(photo).convert(mode if mode != 'LAB' else 'RGB').save(tmp_path / 'a.tif')
    assert np.array_equal(read_raster(tmp_path / 'a.tif', reading(3, 0, 255)),
                          read_image(tmp_path / 'a.tif'))  # fmt: skip


def test_inks_of_16_bits_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / 'a.tif', values_of('uint16', 4), photometric='separated')
    with pytest.raises(DecodingError, match='photometric SEPARATED .* cannot be used'):
        read_raster(tmp_path / 'a.tif', reading(4))


def test_complex_numbers_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / 'a.tif', np.zeros((8, 8), np.complex64))
    with pytest.raises(DecodingError, match='no numbers that can be used'):
        read_raster(tmp_path / 'a.tif', reading(1))


@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientations_and_parts_of_them(orientation, tmp_path):
    values = values_of('uint16', 1, 20, 30)
    path = tmp_path / 'a.tif'
    tifffile.imwrite(path, values[..., 0], extratags=[(274, 'H', 1, orientation, True)])
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    small = (values[..., 0] >> 8).astype(np.uint8)
    Image.fromarray(small).save(buffer, 'PNG', exif=exif)
    upright = read_image(_saved(tmp_path / 'b.png', buffer.getvalue()))[..., 0]
    raster = open_raster(path)
    assert raster.size == upright.shape[::-1]
    assert np.array_equal(raster.read()[..., 0] >> 8, upright)
    assert np.array_equal(raster.read((3, 5, 6, 4))[..., 0] >> 8, upright[5:9, 3:9])
    assert np.array_equal(open_raster(tmp_path / 'b.png').read()[..., 0], upright)


def _saved(path, content):
    path.write_bytes(content)
    return path


def test_the_pages_of_a_stack_are_channels_where_as_many_are_declared(tmp_path):
    values = values_of('uint16', 4)
    tifffile.imwrite(tmp_path / 'a.tif', np.moveaxis(values, 2, 0), photometric='minisblack')
    assert np.array_equal(
        read_raster(tmp_path / 'a.tif', reading(4)), read_raster(
            write(tmp_path / 'b.tif', values, 'whole'), reading(4))
    )  # fmt: skip
    assert read_raster(tmp_path / 'a.tif', reading(1)).shape == (90, 130, 1)
    with pytest.raises(DecodingError, match=r'1 channels and 4 pages, and channels=5'):
        read_raster(tmp_path / 'a.tif', reading(5))


@pytest.mark.parametrize('own', [True, False])
def test_smaller_copies_are_read_where_they_are_enough(own, tmp_path):
    values = values_of('uint16', 5, 400, 600)
    with tifffile.TiffWriter(tmp_path / 'a.tif') as file:
        options = dict(tile=(64, 64), photometric='minisblack', planarconfig='contig')
        file.write(values, subifds=2 if own else 0, **options)
        for step in (2, 4):
            file.write(values[::step, ::step], subfiletype=1, **options)
    raster = open_raster(tmp_path / 'a.tif')
    assert raster.levels == [(600, 400), (300, 200), (150, 100)]
    file = RasterFile(tmp_path / 'a.tif', reading(5))
    for size, step in [((600, 400), 1), ((301, 10), 1), ((300, 200), 2), ((150, 1), 4)]:
        canvas = file.decode(size)
        assert canvas.shape == (400 // step, 600 // step, 5)
        np.testing.assert_allclose(
            canvas[10:90, 20:140], expected(values, 0, 65535)[::step, ::step][10:90, 20:140],
            atol=1e-4,
        )  # fmt: skip
    part = RasterFile(tmp_path / 'a.tif', reading(5), area=(200, 100, 200, 200))
    assert part.size == (200, 200)
    np.testing.assert_allclose(
        part.decode((100, 100))[:, :],
        expected(values, 0, 65535)[::2, ::2][50:150, 100:200],
        atol=1e-4,
    )


# ------------------------------------------------------------------ other formats


@pytest.mark.parametrize('kind, mode, channels', [
    ('PNG', 'L', 1), ('PNG', 'LA', 2), ('PNG', 'RGB', 3), ('PNG', 'RGBA', 4), ('JPEG', 'L', 1),
    ('JPEG', 'RGB', 3), ('WEBP', 'RGB', 3), ('BMP', 'RGB', 3), ('GIF', 'RGB', 3),
    ('TIFF', 'RGB', 3), ('JPEG2000', 'RGB', 3), ('PPM', 'L', 1),
])  # fmt: skip
def test_eight_bits_are_what_pillow_reads(kind, mode, channels, photo, tmp_path):
    image = Image.fromarray(photo).convert(mode)
    image.save(tmp_path / 'a.img', kind)
    with Image.open(tmp_path / 'a.img') as again:
        values = np.asarray(again.convert('RGB') if kind == 'GIF' else again)
    raster = open_raster(tmp_path / 'a.img')
    assert raster.channels == channels and raster.limits == (0, 255)
    assert np.array_equal(raster.read(), values.reshape(90, 120, -1))
    colours = channels - (mode[-1] == 'A')
    pixels = read_raster(tmp_path / 'a.img', reading(colours, 0, 255))
    assert np.array_equal(pixels, values.reshape(90, 120, -1)[..., :colours])


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_png_of_sixteen_bits(channels, tmp_path):
    values = values_of('uint16', channels)
    if channels == 2:
        path = _saved(tmp_path / 'a.png', grey_alpha(values))
    else:
        path = tmp_path / 'a.png'
        cv2.imwrite(str(path), values[..., [2, 1, 0, 3][:channels]] if channels > 2 else values)
    raster = open_raster(path)
    assert (raster.channels, raster.alpha) == (channels, int(channels in (2, 4)))
    assert raster.limits == (0, 65535)
    assert np.array_equal(raster.read(), values)


def grey_alpha(values) -> bytes:
    """A PNG of 16 bits of grey and of alpha, which neither Pillow nor OpenCV writes."""
    import zlib

    def chunk(name, data):
        crc = zlib.crc32(name + data)
        return struct.pack('>I', len(data)) + name + data + struct.pack('>I', crc)

    height, width, _ = values.shape
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in values)
    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 16, 4, 0, 0, 0))
        + chunk(b'IDAT', zlib.compress(rows))
        + chunk(b'IEND', b'')
    )


@pytest.mark.parametrize('dtype, channels', [('uint16', 1), ('int16', 1), ('uint16', 3),
                                             ('uint16', 5), ('uint8', 4)])  # fmt: skip
def test_jpeg_2000(dtype, channels, tmp_path):
    codecs = pytest.importorskip('imagecodecs', reason='needs imagecodecs: the extra rasters')
    values = values_of(dtype, channels)
    content = codecs.jpeg2k_encode(values if channels > 1 else values[..., 0], level=0)
    path = _saved(tmp_path / 'a.jp2', content)
    raster = open_raster(path)
    assert (raster.size, raster.channels, raster.dtype) == ((130, 90), channels, values.dtype)
    assert raster.limits == LIMITS[dtype]
    assert np.array_equal(raster.read(), values)


def test_avif_of_ten_bits(tmp_path):
    codecs = pytest.importorskip('imagecodecs', reason='needs imagecodecs: the extra rasters')
    ramp = np.add.outer(np.arange(64), np.arange(96)).astype(np.uint16) * 6
    values = np.stack([ramp, ramp[::-1], ramp // 2], 2)
    content = codecs.avif_encode(values, level=100, bitspersample=10)
    path = _saved(tmp_path / 'a.avif', content)
    raster = open_raster(path)
    assert raster.limits == (0, 1023) and raster.size == (96, 64)
    assert np.array_equal(raster.read(), codecs.avif_decode(content))
    assert raster.read().max() > 800
    assert ImageFile(path).decode().shape == (64, 96, 3), 'a photograph of 8 bits for all others'


@pytest.mark.parametrize('deep', [False, True])
def test_heic(deep, tmp_path):
    heif = pytest.importorskip('pillow_heif', reason='needs pillow-heif: the extra heif')
    ramp = np.add.outer(np.arange(64), np.arange(96)).astype(np.uint16) * 400
    values = np.stack([ramp, ramp[::-1], ramp // 2], 2)
    stored = values if deep else (values >> 8).astype(np.uint8)
    file = heif.from_bytes('RGB;16' if deep else 'RGB', (96, 64), stored.tobytes())
    file.save(tmp_path / 'a.heic', quality=90)
    raster = open_raster(tmp_path / 'a.heic')
    again = np.asarray(heif.open_heif(tmp_path / 'a.heic', convert_hdr_to_8bit=False))
    assert raster.dtype == stored.dtype and np.array_equal(raster.read(), again)
    photograph = read_image(tmp_path / 'a.heic')
    assert photograph.dtype == np.uint8
    assert np.array_equal(photograph, again >> 8 if deep else again)


# ------------------------------------------------------------------ DICOM


def dicom(path, stored, **fields):
    """A CT slice with the given elements."""
    pydicom = pytest.importorskip('pydicom', reason='needs pydicom: the extra dicom')
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = '1.2.3'
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b'\0' * 128)
    usual = dict(
        Rows=stored.shape[0], Columns=stored.shape[1], SamplesPerPixel=1, BitsAllocated=16,
        BitsStored=12, HighBit=11, PixelRepresentation=int(stored.dtype.kind == 'i'),
        PhotometricInterpretation='MONOCHROME2', SOPClassUID=CTImageStorage, SOPInstanceUID='1.2.3',
    )  # fmt: skip
    for name, value in {**usual, **fields}.items():
        setattr(data, name, value)
    data.PixelData = stored.tobytes()
    pydicom.dcmwrite(path, data, enforce_file_format=True)
    return path


def test_dicom_is_in_its_units(tmp_path):
    stored = RNG.integers(0, 4096, (40, 50), dtype=np.uint16)
    path = dicom(tmp_path / 'a.dcm', stored, RescaleSlope=2, RescaleIntercept=-1024,
                 WindowCenter=40, WindowWidth=400)  # fmt: skip
    raster = open_raster(path)
    assert raster.limits == (-1024, 2 * 4095 - 1024)
    assert raster.stated_window == (-160, 239)
    assert np.array_equal(raster.read()[..., 0], stored * 2.0 - 1024)
    window = -160, 240
    pixels = read_raster(path, reading(1, *window))
    np.testing.assert_allclose(pixels[..., 0], expected(stored * 2.0 - 1024, *window), atol=1e-4)


def test_signed_dicom_with_padding_and_inverted(tmp_path):
    stored = RNG.integers(-1024, 2000, (40, 50), dtype=np.int16)
    stored[:3] = -2000
    path = dicom(tmp_path / 'a.dcm', stored, PixelPaddingValue=-2000, RescaleSlope=1,
                 RescaleIntercept=0, BitsStored=16, HighBit=15)  # fmt: skip
    pixels = read_raster(path, reading(1, -1000, 1000))[..., 0]
    assert (pixels[:3] == 0).all()
    np.testing.assert_allclose(pixels[3:], expected(stored[3:], -1000, 1000), atol=1e-4)
    path = dicom(tmp_path / 'b.dcm', stored, PhotometricInterpretation='MONOCHROME1', BitsStored=16,
                 HighBit=15)  # fmt: skip
    inverted = read_raster(path, reading(1, -1000, 1000))[..., 0]
    np.testing.assert_allclose(inverted[3:], 255 - pixels[3:], atol=1e-4)


@pytest.mark.parametrize('name', [
    'CT_small.dcm', 'MR_small.dcm', 'MR_small_RLE.dcm', 'MR_small_bigendian.dcm', 'JPEG2000.dcm',
    'examples_palette.dcm', 'examples_rgb_color.dcm', 'SC_rgb_rle_2frame.dcm', 'SC_rgb_jpeg.dcm',
    'SC_ybr_full_422_uncompressed.dcm', 'examples_ybr_color.dcm',
])  # fmt: skip
def test_the_files_of_pydicom_are_what_it_reads(name):
    pytest.importorskip('pydicom', reason='needs pydicom: the extra dicom')
    from pydicom import dcmread
    from pydicom.data import get_testdata_file
    from pydicom.pixels import apply_color_lut, apply_modality_lut

    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f'{name} does not come with this pydicom')
    data = dcmread(path)
    frames = data.pixel_array if int(data.get('NumberOfFrames', 1)) == 1 else data.pixel_array[0]
    values = apply_modality_lut(frames, data)
    if data.PhotometricInterpretation == 'PALETTE COLOR':
        values = apply_color_lut(frames, data)
    raster = open_raster(path)
    found = raster.read()
    assert raster.size == (data.Columns, data.Rows) and found.dtype == raster.dtype
    known = np.isfinite(found)
    assert known.mean() > 0.5
    assert np.array_equal(found[known], values.reshape(found.shape)[known])


# ------------------------------------------------------------------ bad input


def _cut(path, share):
    content = path.read_bytes()
    return _saved(path, content[: int(len(content) * share)])


@pytest.mark.faults
@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('share', [0.02, 0.5, 0.95])
def test_cut_off_tiffs_are_one_line(layout, share, tmp_path):
    path = tmp_path / 'a.tif'
    write(path, values_of('uint16', 3), layout)
    tail = path.read_bytes()
    # tifffile may put the list of tags at the end: without it the cut is noticed at once
    _cut(path, share)
    with pytest.raises(DecodingError) as error:
        read_raster(path, reading(3))
    assert '\n' not in str(error.value) and len(tail) > path.stat().st_size


@pytest.mark.faults
@pytest.mark.parametrize('declared', [1, 2, 4, 16])
def test_other_channels_than_declared(declared, tmp_path):
    path = write(tmp_path / 'a.tif', values_of('uint16', 3), 'whole')
    with pytest.raises(DecodingError, match=f'it has 3 channels, and channels={declared}'):
        read_raster(path, reading(declared))


@pytest.mark.faults
def test_a_declared_alpha_is_data_and_another_is_left_out(tmp_path):
    values = values_of('uint16', 4)
    tifffile.imwrite(tmp_path / 'a.tif', values, photometric='rgb', extrasamples=['unassalpha'])
    assert read_raster(tmp_path / 'a.tif', reading(4)).shape[2] == 4
    assert np.array_equal(read_raster(tmp_path / 'a.tif', reading(3)),
                          read_raster(tmp_path / 'a.tif', reading(4))[..., :3])  # fmt: skip
    tifffile.imwrite(tmp_path / 'b.tif', values, photometric='rgb', extrasamples=['unspecified'])
    with pytest.raises(DecodingError, match='it has 4 channels, and channels=3'):
        read_raster(tmp_path / 'b.tif', reading(3))


def huge_header(side, tile=512) -> bytes:
    """A tiled BigTIFF of side x side 16-bit pixels in 4 bands, of which every tile is left out."""
    count = (-(-side // tile)) ** 2
    tags = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 4, struct.pack('<4H', *(16,) * 4)),
            (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 4), (322, 3, 1, tile), (323, 3, 1, tile),
            (324, 16, count, None), (325, 16, count, None),
            (338, 3, 3, struct.pack('<3H', 0, 0, 0) + b'\0\0')]  # fmt: skip
    start = 16 + 8 + 20 * len(tags) + 8
    entries = b''
    for tag, kind, number, value in tags:
        if isinstance(value, int):
            value = struct.pack('<Q', value)
        elif value is None:
            value = struct.pack('<Q', start + (tag - 324) * 8 * count)
        entries += struct.pack('<HHQ', tag, kind, number) + value
    head = struct.pack('<2sHHHQ', b'II', 43, 8, 0, 16) + struct.pack('<Q', len(tags)) + entries
    return head + b'\0' * 8 + b'\0' * (16 * count)


def test_a_hundred_thousand_pixels_each_way(tmp_path):
    path = _saved(tmp_path / 'a.tif', huge_header(100_000))
    raster = open_raster(path)
    assert raster.size == (100_000, 100_000) and raster.channels == 4
    file = RasterFile(path, reading(4))
    part = file.decode()[99_000:99_500, 50:700]
    assert part.shape == (500, 650, 4) and not part.any()
    with pytest.raises(DecodingError, match='set max_pixels, put plrc_plugin.ImageWindows'):
        file.decode()[:, :]
    area = RasterFile(path, reading(4), area=(70_000, 3, 1000, 1000))
    assert area.decode()[:, :].shape == (1000, 1000, 4)
    with pytest.raises(DecodingError, match='it has changed'):
        RasterFile(path, reading(4), area=(99_500, 3, 1000, 1000))


@pytest.mark.faults
def test_what_is_read_whole_keeps_to_the_limit(photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / 'a.png')
    few = Reading.of('test', 3, (0, 255), max_pixels=5000)
    with pytest.raises(DecodingError, match=r'10800 pixels|120 x 90 pixels, more than the 5,000'):
        read_raster(tmp_path / 'a.png', few)
    with pytest.raises(DecodingError, match='exceeds limit'):
        ImageFile(tmp_path / 'a.png', max_pixels=5000)
    assert ImageFile(tmp_path / 'a.png', max_pixels=10_800).decode().shape == photo.shape


@pytest.mark.faults
def test_tiles_of_absurd_sizes_are_refused(tmp_path):
    path = _saved(tmp_path / 'a.tif', huge_header(40_000, tile=32_768))
    with pytest.raises(DecodingError, match='write it anew in tiles'):
        RasterFile(path, reading(4)).decode()[:10, :10]


@pytest.mark.faults
@pytest.mark.parametrize('name, content', [
    ('a.dcm', b'not dicom at all'), ('b.dcm', b'\0' * 128 + b'DICM'),
    ('c.jp2', b'\xff\x4f\xff\x51'),
    ('d.heic', b'\0\0\0\x18ftypheic\0\0\0\0mif1heic'), ('e.tif', b'II*\0\x08\0\0\0'),
    ('f.tif', b'II+\0'), ('g.avif', b'\0\0\0\x1cftypavif\0\0\0\0avifmif1'), ('h.tif', b''),
    ('i.png', b'\x89PNG\r\n\x1a\n'),
])  # fmt: skip
def test_beginnings_of_files_are_one_line(name, content, tmp_path):
    path = _saved(tmp_path / name, content)
    for read in (lambda: read_raster(path, reading(1)), lambda: read_image(path)):
        with pytest.raises(DecodingError) as error:
            read()
        assert '\n' not in str(error.value)


@pytest.mark.faults
def test_without_its_library_the_line_says_what_to_install(tmp_path, monkeypatch):
    import sys

    path = _saved(tmp_path / 'a.heic', b'\0\0\0\x18ftypheic\0\0\0\0mif1heic')
    monkeypatch.setitem(sys.modules, 'pillow_heif', None)
    with pytest.raises(DecodingError, match=r"pip install 'plrc_plugin\[heif\]'"):
        read_image(path)
    path = _saved(tmp_path / 'a.dcm', b'\0' * 128 + b'DICM')
    monkeypatch.setitem(sys.modules, 'pydicom', None)
    with pytest.raises(DecodingError, match=r"pip install 'plrc_plugin\[dicom\]'"):
        read_image(path)


@pytest.mark.parametrize('window', [None, (1, 1), (2, 1), 'all', ((0, 1),) * 3, (0, np.nan), 7, []])
def test_windows_that_cannot_be(window):
    with pytest.raises(SettingsError, match='window must be'):
        Reading.of('test', 4, window)


@pytest.mark.parametrize('window', ['percentiles', 'dtype', dict(percentiles=(1, 99))])
def test_measured_windows_are_no_numbers_yet(window):
    with pytest.raises(SettingsError, match='is measured by runner_type'):
        Reading.of('test', 4, window)
