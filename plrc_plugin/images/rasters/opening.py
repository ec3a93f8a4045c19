"""Opens a file by its first bytes, whatever its name is."""

import os
import stat
from typing import Optional

from plrc_plugin.images.decoding import pixel_limit
from plrc_plugin.images.depth import TIFF
from plrc_plugin.images.rasters.encoded import (
    CodecRaster,
    HeifRaster,
    PillowRaster,
    avif_bits,
)
from plrc_plugin.images.rasters.raster import MAX_PIXELS, Raster, Source

_JPEG2000 = (b'\x00\x00\x00\x0cjP  \r\n\x87\n', b'\xff\x4f\xff\x51')
_AVIF_BRANDS = {b'avif', b'avis'}
_HEIF_BRANDS = {b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx', b'mif1', b'msf1'}
_HEAD = 4096


def open_raster(source: Source, max_pixels: Optional[int] = None, name: str = '') -> Raster:
    """Opens an image of any known format.

    Args:
        source: a path, or the content of a file.
        max_pixels: most pixels that are decoded at once. Defaults to ``MAX_PIXELS``.
        name: name of a content. A DICOM file without its preamble is recognised by its suffix.

    Raises:
        ImportError: if a library is not installed.
        ValueError: if the image cannot be used.
        Exception: of any type that the libraries raise for a file that is missing, damaged or no
            image.
    """
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    if not isinstance(source, bytes):
        name = os.fspath(source)
    with pixel_limit(limit):
        raster = _opened(source, _head(source), name)
        width, height = raster.size
        if width < 1 or height < 1:
            raise ValueError(f'it is {width} x {height} pixels')
        if not raster.windowed and width * height > limit:
            raise ValueError(
                f'it has {width} x {height} pixels, more than the {limit:,} that are decoded at '
                'once, and its format is read whole: set max_pixels, or save it as a tiled TIFF'
            )
    return raster


def needs_own_reader(source: Source, name: str) -> bool:
    """Whether a file, or the content of one, has a format that neither Pillow nor tifffile reads:
    HEIC, JPEG 2000 or DICOM."""
    from plrc_plugin.images.rasters.dicom import is_dicom

    head = _head(source)
    return head.startswith(_JPEG2000) or bool(_brands(head) & _HEIF_BRANDS) or is_dicom(head, name)


def _head(source: Source) -> bytes:
    if isinstance(source, bytes):
        return source[:_HEAD]
    # A pipe would stall the worker, and a device may never end.
    if not stat.S_ISREG(os.stat(source).st_mode):
        raise OSError('not a regular file')
    with open(source, 'rb') as file:
        return file.read(_HEAD)


def _brands(head: bytes) -> set[bytes]:
    """Returns the brands of a file in the container of HEIC and AVIF, and none for any other
    file."""
    if head[4:8] != b'ftyp':
        return set()
    return {head[8:12], *(head[i : i + 4] for i in range(16, head[3] + 256 * head[2], 4))}


def _opened(source: Source, head: bytes, name: str) -> Raster:
    from plrc_plugin.images.rasters.dicom import DicomRaster, is_dicom

    if is_dicom(head, name):  # first, as a preamble may be the header of a TIFF
        return DicomRaster(source)
    # Their libraries are imported only for files that need them.
    if head[:4] in TIFF:
        from plrc_plugin.images.rasters.tiff import NotBands, TiffRaster

        try:
            return TiffRaster(source)
        except NotBands as error:
            if error.bits > 8:
                raise
            return PillowRaster(source)
    if head.startswith(_JPEG2000):
        raster = CodecRaster(source, 'JPEG2000')
        bytes_of_colours = raster.dtype == 'uint8' and raster.channels in (1, 3)
        return PillowRaster(source) if bytes_of_colours else raster
    brands = _brands(head)
    if brands & _AVIF_BRANDS:
        return PillowRaster(source) if avif_bits(head) == 8 else CodecRaster(source, 'AVIF')
    if brands & _HEIF_BRANDS:
        return HeifRaster(source)
    return PillowRaster(source)
