"""A folder of files as the web, cameras and failing disks make them."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image


def picture(rng, width=64, height=48, mode='RGB') -> Image.Image:
    pixels = rng.integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze() if len(mode) == 1 else pixels, mode)


def encoded(image, kind, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims any size; its pixels end at once."""

    def chunk(name, data):
        return (
            struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
        )

    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
        + chunk(b'IDAT', zlib.compress(b'\0' * 100))
        + chunk(b'IEND', b'')
    )


def make_hostile_images(folder: Path, copies: int = 5) -> dict[str, bool]:
    """Writes at least 60 kinds of files, ``copies`` of each. Returns path -> whether it is an image
    that can be read (None: the platform decides)."""
    folder.mkdir(parents=True)
    made = {}
    for copy in range(copies):
        rng = np.random.default_rng(copy)
        for name, (content, readable) in _files(rng).items():
            name = f'{copy}_{name}'
            made[name] = readable
            path = os.fsencode(folder / name) if isinstance(name, str) else name
            with open(path, 'wb') as file:
                file.write(content)
        for name, make in _special(folder).items():
            path = folder / f'{copy}_{name}'
            make(path)
            made[path.name] = False
        (folder / f'{copy}_forbidden.jpg').chmod(0)
    assert len(made) >= 300
    return made


def _files(rng) -> dict:
    image = picture(rng)
    jpeg, png = encoded(image, 'JPEG'), encoded(image, 'PNG')
    frames = [picture(rng, mode='RGB') for _ in range(3)]
    exif = Image.Exif()
    exif[0x0112] = 6
    rotated = encoded(image, 'JPEG', exif=exif)
    sixteen = Image.fromarray(rng.integers(0, 65536, (20, 30), dtype=np.uint16))
    palette = image.convert('P')
    files = {
        'empty.jpg': (b'', False),
        'zeros.png': (b'\0' * 5000, False),
        'noise.jpg': (rng.bytes(3000), False),
        'text.png': (b'<html>404</html>', False),
        'magic_only.jpg': (jpeg[:3], False),
        'magic_only.png': (png[:8], False),
        'cut_10.jpg': (jpeg[: len(jpeg) // 10], False),
        'cut_50.jpg': (jpeg[: len(jpeg) // 2], False),
        'cut_90.jpg': (jpeg[: len(jpeg) * 9 // 10], False),
        'cut_50.png': (png[: len(png) // 2], False),
        'cut_tail.jpg': (jpeg[:-2], None),
        'cut_head.jpg': (jpeg[100:], False),
        'holes.png': (png[:200] + b'\0' * 300 + png[500:], False),
        'zeros_inside.jpg': (jpeg[:300] + b'\0' * 1500 + jpeg[1800:], None),
        'flipped_header.png': (png[:18] + b'\xff\xff' + png[20:], False),
        'no_pixels.png': (png_header(64, 48), False),
        'bomb.png': (png_header(60000, 60000), False),
        'bomb_wide.png': (png_header(2**31 - 1, 1), False),
        'zero_wide.png': (png_header(0, 10), False),
        'bomb.gif': (b'GIF89a\xff\xff\xff\xff\x80\0\0' + b'\0' * 30, False),
        'jpeg_named.png': (jpeg, True),
        'png_named.jpg': (png, True),
        'gif_named.jpeg': (encoded(image, 'GIF'), True),
        'webp_named.jpg': (encoded(image, 'WEBP'), True),
        # Pillow would start Ghostscript, with this program, and only then say that it is broken.
        'postscript.jpg': (
            b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\n{} loop\n%%EOF\n',
            False,
        ),
        'eps.png': (encoded(image, 'EPS'), False),
        'icon.png': (encoded(image, 'ICO'), False),
        'pdf.jpg': (encoded(image, 'PDF'), False),
        'shell.jpg': (b'#!/bin/sh\nexit 1\n', False),
        'zip.png': (b'PK\x03\x04' + rng.bytes(500), False),
        'archive_behind.jpg': (jpeg + rng.bytes(2000), True),
        '1x1.png': (encoded(picture(rng, 1, 1), 'PNG'), True),
        '1x1.jpg': (encoded(picture(rng, 1, 1), 'JPEG'), True),
        '1x5000.png': (encoded(picture(rng, 1, 5000), 'PNG'), True),
        '5000x1.jpg': (encoded(picture(rng, 5000, 1), 'JPEG'), True),
        '2x3.gif': (encoded(picture(rng, 2, 3), 'GIF'), True),
        'grey.jpg': (encoded(image.convert('L'), 'JPEG'), True),
        'one_bit.png': (encoded(image.convert('1'), 'PNG'), True),
        'grey_alpha.png': (encoded(image.convert('LA'), 'PNG'), True),
        'alpha.png': (encoded(picture(rng, mode='RGBA'), 'PNG'), True),
        'alpha.webp': (encoded(picture(rng, mode='RGBA'), 'WEBP'), True),
        'palette.png': (encoded(palette, 'PNG'), True),
        'palette_clear.png': (encoded(palette, 'PNG', transparency=0), True),
        'palette_alphas.png': (encoded(palette, 'PNG', transparency=bytes(range(256))), True),
        'cmyk.jpg': (encoded(image.convert('CMYK'), 'JPEG'), True),
        'cmyk.tif': (encoded(image.convert('CMYK'), 'TIFF'), True),
        'lab.tif': (encoded(image.convert('LAB'), 'TIFF'), None),
        '16_bit.png': (encoded(sixteen, 'PNG'), True),
        '16_bit.tif': (encoded(sixteen, 'TIFF'), True),
        '32_bit.tif': (
            encoded(Image.fromarray(rng.integers(0, 9, (9, 9), dtype=np.int32)), 'TIFF'),
            True,
        ),
        'float.tif': (
            encoded(Image.fromarray(rng.random((9, 9), dtype=np.float32)), 'TIFF'),
            False,
        ),
        'nan.tif': (encoded(Image.fromarray(np.full((9, 9), np.nan, np.float32)), 'TIFF'), False),
        # Of other depths than the 8-bit RGB that a run without channels= reads.
        'five_bands.tif': (_tiff(rng.integers(0, 4096, (20, 30, 5), dtype=np.uint16)), False),
        'cut_tiles.tif': (
            _tiff(rng.integers(0, 255, (80, 90, 4), dtype=np.uint8), tile=(32, 32))[:20000],
            False,
        ),
        'signed.tif': (_tiff(np.full((9, 9), -5, np.int16)), False),
        'infinite.tif': (_tiff(np.full((9, 9), np.inf, np.float32)), False),
        'text.dcm': (b'not DICOM', False),
        'no_pixels.dcm': (b'\0' * 128 + b'DICM', False),
        'magic_only.heic': (b'\0\0\0\x18ftypheic\0\0\0\0mif1heic', False),
        'magic_only.avif': (b'\0\0\0\x1cftypavif\0\0\0\0avifmif1', False),
        'magic_only.jp2': (b'\0\0\0\x0cjP  \r\n\x87\n', False),
        'cut.tif': (encoded(image, 'TIFF')[:900], False),
        'lzw.tif': (encoded(image, 'TIFF', compression='tiff_lzw'), True),
        'animated.gif': (encoded(frames[0], 'GIF', save_all=True, append_images=frames[1:]), True),
        'animated.png': (encoded(frames[0], 'PNG', save_all=True, append_images=frames[1:]), True),
        'animated.webp': (
            encoded(frames[0], 'WEBP', save_all=True, append_images=frames[1:]),
            True,
        ),
        'pages.tif': (encoded(frames[0], 'TIFF', save_all=True, append_images=frames[1:]), True),
        'rotated.jpg': (rotated, True),
        'broken_exif.jpg': (rotated.replace(b'Exif\0\0', b'Exif\0\0\xff\xff\xff'), None),
        'exif_lies.jpg': (rotated.replace(b'\x12\x01\x03\0', b'\x12\x01\x07\xff'), None),
        'exif_noise.jpg': (
            jpeg[:2] + b'\xff\xe1\x01\x02Exif\0\0' + rng.bytes(250) + jpeg[2:],
            None,
        ),
        'progressive.jpg': (encoded(image, 'JPEG', progressive=True), True),
        'progressive_cut.jpg': (encoded(image, 'JPEG', progressive=True)[:900], False),
        'big_profile.jpg': (encoded(image, 'JPEG', icc_profile=rng.bytes(100000)), True),
        'text_bomb.png': (png[:33] + _text_bomb() + png[33:], None),
        'ok.bmp': (encoded(image, 'BMP'), True),
        'cut.bmp': (encoded(image, 'BMP')[:2000], False),
        'ok.ppm': (encoded(image, 'PPM'), True),
        'lying.ppm': (b'P6 99999 99999 255\n' + b'x' * 99, False),
        'cut.webp': (encoded(image, 'WEBP')[:200], False),
        'cut.gif': (encoded(image, 'GIF')[:300], None),
        'forbidden.jpg': (jpeg, None),  # root reads it
        'UPPER.JPG': (jpeg, True),
        'with space.jpg': (jpeg, True),
        "quote'.jpg": (jpeg, True),
        'line\nbreak.jpg': (jpeg[:99], False),
        '图像.png': (png, True),
        'صورة.jpg': (jpeg, True),
        'изображение.jpg': (jpeg[:50], False),
        '🦓.png': (png, True),
        'e\u0301.png': (png, True),
        'bytes\udcff.jpg': (jpeg, True),
        'bytes\udcfe.jpg': (jpeg[:80], False),  # noqa: F601 (ruff takes all surrogates for one)
        '%s%d{}.jpg': (jpeg[:80], False),
        '-rf.jpg': (jpeg, True),
        'x' * 200 + '.jpg': (jpeg, True),
    }
    return files


def _tiff(values, **options) -> bytes:
    if values.ndim == 3:
        options['planarconfig'] = 'contig'
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, photometric='minisblack', **options)
    return buffer.getvalue()


def _text_bomb() -> bytes:
    data = b'Comment\0\0' + zlib.compress(b'a' * 3000000)
    return (
        struct.pack('>I', len(data))
        + b'zTXt'
        + data
        + struct.pack('>I', zlib.crc32(b'zTXt' + data))
    )


def _special(folder: Path) -> dict:
    return {
        'dangling.jpg': lambda path: path.symlink_to(folder / 'nowhere.jpg'),
        'itself.png': lambda path: path.symlink_to(path),
        'folder.jpg': lambda path: path.mkdir(),
        'pipe.jpg': os.mkfifo,
        'device.png': lambda path: path.symlink_to('/dev/zero'),
    }
