"""Formats that are decoded whole: PNG, JPEG, JPEG 2000, HEIC, AVIF and others that Pillow reads."""

import os
import struct
from io import BytesIO
from typing import Optional

import cv2
import numpy as np
from PIL import Image

from plrc_plugin.images.decoding import FORMATS as RGB_FORMATS
from plrc_plugin.images.depth import is_deep
from plrc_plugin.images.missing import needs
from plrc_plugin.images.orientation import EXIF_TAG
from plrc_plugin.images.rasters.raster import Box, Raster, Source, limits_of

FORMATS = (*RGB_FORMATS, 'JPEG2000')  # the formats that Pillow may open
_CODESTREAM = b'\xff\x4f\xff\x51'  # the codestream of JPEG 2000, which begins with the sizes
_HEAD = 65536
_PNG_COLOURS = {0: (1, 0), 2: (3, 0), 4: (2, 1), 6: (4, 1)}  # colour type: channels, alpha


class EncodedRaster(Raster):
    """An image that its library decodes once and as a whole, with colours as RGB."""

    _pixels: Optional[np.ndarray] = None
    _level = 0

    def decode(self, level: int) -> np.ndarray:
        """Returns the numbers as stored, (H, W) or (H, W, C)."""
        raise NotImplementedError

    def read_stored(self, box: Box, level: int) -> np.ndarray:
        if self._pixels is None or self._level != level:
            pixels = self.decode(level)
            self._pixels = pixels[..., None] if pixels.ndim == 2 else pixels
            self._level = level
        left, top, width, height = box
        return self._pixels[top : top + height, left : left + width]


class PillowRaster(EncodedRaster):
    """Reads images of 8 bits by Pillow, where only JPEGs have smaller levels, and of more bits by
    OpenCV."""

    _LAYOUTS = {'1': (1, 0), 'L': (1, 0), 'LA': (2, 1), 'RGBA': (4, 1)}  # noqa: RUF012

    def __init__(self, source: Source):
        self._source = source
        image = Image.open(BytesIO(source) if isinstance(source, bytes) else source,
                           formats=FORMATS)  # fmt: skip
        self._image, self.kind = image, str(image.format)
        self._deep = is_deep(image)
        self.orientation = 1
        if image.format != 'TIFF':  # Pillow turns these upright by itself
            self.orientation = image.getexif().get(EXIF_TAG, 1)
        self.dtype, self.limits = np.dtype(np.uint8), (0, 255)
        self.channels, self.alpha = self._LAYOUTS.get(image.mode, (3, 0))
        sizes = [image.size]
        if self._deep:
            self._describe_deep()
        elif image.format == 'JPEG':
            sizes += [tuple(-(-side // r) for side in image.size) for r in (2, 4, 8)]
        self.set_sizes(sizes)

    def _describe_deep(self) -> None:
        """Describes a PNG by its header. Other files are decoded, because their headers tell too
        little."""
        self.dtype = np.dtype(np.uint16)
        if self.kind == 'PNG':
            self.channels, self.alpha = _PNG_COLOURS[self._content()[25]]
        else:
            values = self._read_deep()
            self._pixels = values[..., None] if values.ndim == 2 else values
            self.channels, self.dtype = self._pixels.shape[2], values.dtype
        self.limits = limits_of(self.dtype)

    def decode(self, level: int) -> np.ndarray:
        if self._deep:
            return self._read_deep()
        image = self._image
        if level or image.fp is None:
            image = Image.open(BytesIO(self._source) if isinstance(self._source, bytes)
                               else self._source, formats=FORMATS)  # fmt: skip
            if level:
                image.draft(None, tuple(side // 2**level for side in image.size))
        with image:
            image.load()
            if image.mode == '1':
                return np.asarray(image.convert('L'))
            if image.mode in self._LAYOUTS or image.mode == 'RGB':
                return np.asarray(image)
            return np.asarray(image.convert('RGB'))

    def _read_deep(self) -> np.ndarray:
        content = self._content()
        values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if values is None:
            raise ValueError('truncated or damaged')
        if values.ndim == 2:
            return values
        if self.kind == 'PNG' and self.channels < 3:  # OpenCV makes four channels of grey and alpha
            return values[..., [0, 3][: self.channels]]
        return values[..., [2, 1, 0, *range(3, self.channels)]]

    def _content(self) -> bytes:
        return self._source if isinstance(self._source, bytes) else _content(self._source)


class HeifRaster(EncodedRaster):
    """Reads HEIC and HEIF by pillow-heif, which widens 10 and 12 bits to 16."""

    kind = 'HEIF'

    def __init__(self, source: Source):
        heif = needs('pillow_heif', 'heif', 'HEIC')
        content = BytesIO(source) if isinstance(source, bytes) else os.fspath(source)
        # libheif turns the pixels by itself, and the library sets the EXIF orientation to 1
        self._image = heif.open_heif(content, convert_hdr_to_8bit=False)
        deep = ';16' in self._image.mode
        self.dtype = np.dtype(np.uint16 if deep else np.uint8)
        self.limits = limits_of(self.dtype)
        mode = self._image.mode.partition(';')[0]
        self.channels = {'L': 1, 'LA': 2, 'RGBA': 4, 'I': 1}.get(mode, 3)
        self.alpha = int(mode in ('LA', 'RGBA'))
        self.set_sizes([self._image.size])

    def decode(self, level: int) -> np.ndarray:
        return np.asarray(self._image)


class CodecRaster(EncodedRaster):
    """Reads JPEG 2000 of any depth and number of channels, and AVIF of more than 8 bits, by
    imagecodecs."""

    def __init__(self, source: Source, kind: str):
        self.kind = kind
        self._content = source if isinstance(source, bytes) else _content(source)
        if kind == 'JPEG2000':
            place = self._content.find(_CODESTREAM, 0, _HEAD)
            if place < 0:
                raise ValueError('there is no codestream in this JPEG 2000 file')
            x, y, x0, y0 = struct.unpack_from('>IIII', self._content, place + 8)
            self.channels, depth = struct.unpack_from('>HB', self._content, place + 40)
            signed, bits = depth >> 7, (depth & 127) + 1
            self.dtype = np.dtype(
                f'{"i" if signed else "u"}{1 if bits <= 8 else 2 if bits <= 16 else 4}'
            )
            self.limits = limits_of(self.dtype, bits)
            self.set_sizes([(x - x0, y - y0)])
        else:
            with Image.open(BytesIO(self._content), formats=('AVIF',)) as image:
                self.channels = 4 if image.mode == 'RGBA' else 3
                self.orientation = image.getexif().get(EXIF_TAG, 1)
                self.set_sizes([image.size])
            self.alpha = self.channels - 3
            self.dtype = np.dtype(np.uint16)
            self.limits = (0, 2 ** avif_bits(self._content[:_HEAD]) - 1)
        if self.kind == 'JPEG2000' and self.channels in (2, 4):
            self.alpha = int(b'cdef' in self._content[:_HEAD])

    def decode(self, level: int) -> np.ndarray:
        codecs = needs('imagecodecs', 'rasters', f'{self.kind} of this depth')
        decode = codecs.jpeg2k_decode if self.kind == 'JPEG2000' else codecs.avif_decode
        return decode(self._content)


def avif_bits(head: bytes) -> int:
    """Returns the bits a channel that the item's properties state, or 8 if they state none."""
    place = head.find(b'pixi')
    return head[place + 9] if 0 <= place < len(head) - 9 and head[place + 8] else 8


def _content(source: Source) -> bytes:
    with open(source, 'rb') as file:
        return file.read()
