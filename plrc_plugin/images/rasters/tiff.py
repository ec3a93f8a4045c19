"""Reads TIFF of any depth by tifffile: strips, tiles, planes, pyramids, BigTIFF and GeoTIFF."""

import logging
import os
from io import BytesIO
from typing import Any, Optional

import numpy as np
import tifffile
from tifffile import COMPRESSION, PHOTOMETRIC

from plrc_plugin.images.rasters.raster import MAX_PIXELS, Box, Raster, Source, limits_of

logging.getLogger('tifffile').setLevel(logging.CRITICAL)  # tifffile raises for errors that matter

_ALPHA = (1, 2)  # values of ExtraSamples that mean alpha; 0 is a band without a meaning
_JPEG = (COMPRESSION.JPEG, COMPRESSION.OJPEG, COMPRESSION.JPEG_LOSSY)
_NODATA = 'GDAL_NODATA'
_AS_STORED = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.RGB, PHOTOMETRIC.PALETTE)
_MOST_LEVELS = 16


class NotBands(ValueError):
    """Samples that are not the colours themselves: inks, luma and chroma, or a mosaic."""

    def __init__(self, bits: int, message: str):
        super().__init__(message)
        self.bits = bits


def bands_are_stored(page: Any) -> bool:
    """Whether the samples of a page are bands, or colours that tifffile can decode."""
    return page.photometric in _AS_STORED or (
        page.photometric == PHOTOMETRIC.YCBCR and page.compression in _JPEG
    )


class TiffRaster(Raster):
    """The first image of a file, with its smaller copies as levels.

    ``pages`` counts the pages if they have one sample each and the same shape, and none is a
    smaller copy of another. :meth:`take_pages` then makes them the channels.
    """

    kind = 'TIFF'
    windowed = True

    def __init__(self, source: Source):
        self._in_memory = isinstance(source, bytes)
        self._file = tifffile.TiffFile(BytesIO(source) if self._in_memory else os.fspath(source))
        page = self._file.pages[0]
        if page.dtype is None or page.dtype.kind == 'c':
            raise ValueError(f'samples of {page.bitspersample} bits as {page.sampleformat} are no '
                             'numbers that can be used')  # fmt: skip
        if not bands_are_stored(page):
            raise NotBands(
                page.bitspersample,
                f'photometric {getattr(page.photometric, "name", page.photometric)} of '
                f'{page.bitspersample} bits cannot be used: save it as bands (MINISBLACK) or RGB',
            )
        self.orientation = _number(page, 'Orientation', 1)
        smaller = list(_smaller(self._file, page))
        self._pages = [[level] for level in (page, *smaller)]
        self.set_sizes([(p.imagewidth, p.imagelength) for (p,) in self._pages])
        self.channels = page.samplesperpixel
        self.dtype = page.dtype
        extra = page.extrasamples or ()
        self.alpha = int(bool(extra) and int(extra[-1]) in _ALPHA)
        self.limits = limits_of(self.dtype, page.bitspersample)
        self.inverted = page.photometric == PHOTOMETRIC.MINISWHITE
        self.nodata = _nodata(page)
        self._colours = None
        if page.photometric == PHOTOMETRIC.PALETTE:
            self._colours = (np.asarray(page.colormap).T >> 8).astype(np.uint8)
            self.channels, self.dtype, self.limits = 3, np.dtype(np.uint8), (0, 255)
        self.pages = 1 if smaller or self.channels > 1 else len(self._file.pages)
        self._segments: dict[tuple[int, int], Optional[np.ndarray]] = {}

    def take_pages(self) -> None:
        """Makes the pages the channels."""
        pages = [self._file.pages[n] for n in range(self.pages)]
        shapes = {(p.shape, p.dtype) for p in pages}
        if len(shapes) > 1:
            raise ValueError(f'its {len(pages)} pages have different shapes or types')
        self._pages, self.channels = [pages], len(pages)

    def read_stored(self, box: Box, level: int) -> np.ndarray:
        parts = [self._of_page(page, box) for page in self._pages[level]]
        values = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
        if self._colours is not None:
            values = self._colours[values[..., 0].clip(0, len(self._colours) - 1)]
        return values

    def _of_page(self, page: Any, box: Box) -> np.ndarray:
        left, top, width, height = box
        planes, _, page_height, page_width, samples = page.shaped
        if page.is_memmappable and not self._in_memory:
            whole = page.asarray(out='memmap')
            if planes > 1:
                whole = np.moveaxis(whole, 0, -1)
            whole = whole.reshape(page_height, page_width, -1)
            return np.asarray(whole[top : top + height, left : left + width])
        if page.is_tiled:
            tall, wide = page.tilelength, page.tilewidth
        else:
            tall, wide = min(page.rowsperstrip or page_height, page_height), page_width
        if tall * wide > MAX_PIXELS:
            raise ValueError(
                f'its strips or tiles have {wide} x {tall} pixels, more than {MAX_PIXELS:,}: write '
                'it anew in tiles, e.g. gdal_translate -co TILED=YES'
            )
        across, down = -(-page_width // wide), -(-page_height // tall)
        values = np.zeros((height, width, planes * samples), page.dtype)
        if self.nodata is not None:
            values[...] = self.nodata
        for plane in range(planes):
            for row in range(top // tall, -(-(top + height) // tall)):
                for column in range(left // wide, -(-(left + width) // wide)):
                    segment = self._segment(page, (plane * down + row) * across + column)
                    if segment is None:
                        continue  # a sparse file leaves out parts that were not measured
                    y, x = row * tall - top, column * wide - left
                    into = values[
                        max(y, 0) : y + segment.shape[0],
                        max(x, 0) : x + segment.shape[1],
                        plane * samples : (plane + 1) * samples,
                    ]
                    into[...] = segment[
                        max(-y, 0) :, max(-x, 0) :
                    ][: into.shape[0], : into.shape[1]]  # fmt: skip
        return values

    def _segment(self, page: Any, index: int) -> Optional[np.ndarray]:
        """Reads a strip or tile, (h, w, samples), and keeps it, because both views may need it."""
        key = id(page), index
        if key not in self._segments:
            count = page.databytecounts[index]
            content = None
            if count:
                handle = self._file.filehandle
                handle.seek(page.dataoffsets[index])
                content = handle.read(count)
                if len(content) < count:
                    raise ValueError(f'truncated: {count - len(content)} bytes of a part are gone')
            decoded = page.decode(content, index, jpegtables=page.jpegtables)[0]
            self._segments[key] = None if decoded is None else decoded[0]
        return self._segments[key]


def _number(page: Any, tag: str, default: int) -> int:
    value = getattr(page.tags.get(tag), 'value', default)
    return int(value) if isinstance(value, (int, np.integer)) else default


def _nodata(page: Any) -> Optional[float]:
    """GDAL's value for no data, if the samples can have that value."""
    text = getattr(page.tags.get(_NODATA), 'value', None)
    try:
        value = float(str(text).strip('\0 '))
    except ValueError:
        return None
    if np.isnan(value):
        return None  # NaN counts as no data in any case
    return value if page.dtype.kind == 'f' or page.dtype.type(value) == value else None


def _smaller(file: Any, page: Any):
    """Returns the smaller copies of a page, the largest first: its own copies, or the next
    pages."""
    found = [*(page.pages or ())]
    if not found:
        count = 0
        while count < _MOST_LEVELS:
            count += 1
            try:
                other = file.pages[count]
            except IndexError:
                break
            if not other.is_reduced:
                break
            found.append(other)
    width = page.imagewidth
    for other in sorted(found, key=lambda p: -p.imagewidth):
        same = (other.samplesperpixel, other.dtype, other.photometric) == (
            page.samplesperpixel,
            page.dtype,
            page.photometric,
        )
        ratio = page.imagewidth / other.imagewidth, page.imagelength / other.imagelength
        if same and other.imagewidth < width and abs(ratio[0] - ratio[1]) < 0.1 * ratio[0]:
            width = other.imagewidth
            yield other
