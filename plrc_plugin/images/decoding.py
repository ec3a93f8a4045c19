"""Decodes image files to upright RGB uint8 arrays, at full or reduced size."""

import os
import stat
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from typing import Optional, Union

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from plrc_plugin.errors import InputError
from plrc_plugin.images import jpeg
from plrc_plugin.images.depth import Window, is_deep, read_deep, size_of_tiff
from plrc_plugin.images.orientation import EXIF_TAG, TRANSPOSED
from plrc_plugin.images.stored import image_source

EXTENSIONS = (
    *('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff', '.gif', '.ppm', '.pgm'),
    *('.avif', '.heic', '.heif', '.jp2', '.j2k', '.dcm', '.dicom', '.btf', '.tf8'),
)
# The formats that Pillow may open. Other formats are refused whatever the file's name is: for EPS,
# Pillow would start Ghostscript.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'GIF', 'PPM')
if find_spec('PIL.AvifImagePlugin') is not None:  # since Pillow 11.3
    FORMATS += ('AVIF',)

# Pillow's decompression-bomb error stays on. Its warning for smaller images is only noise in
# workers.
warnings.simplefilter('ignore', Image.DecompressionBombWarning)


@contextmanager
def pixel_limit(pixels: Optional[int]):
    """A context in which Pillow refuses images of more pixels than these. None leaves its own
    limit."""
    kept = Image.MAX_IMAGE_PIXELS
    try:
        if pixels is not None:
            Image.MAX_IMAGE_PIXELS = max(1, pixels // 2)  # Pillow stops at twice its limit
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = kept


class DecodingError(InputError):
    """An image file that cannot be read; ``reason`` says why in one line."""

    def __init__(self, path: str, reason: object):
        self.path = path
        self.reason = (
            ' '.join(f'{type(reason).__name__}: {reason}'.split())
            if isinstance(reason, BaseException)
            else str(reason)
        )
        super().__init__(f'{path}: {self.reason}')

    def __reduce__(self):
        return type(self), (self.path, self.reason)


class ImageFile:
    """An opened image: its upright size is known, its pixels are not decoded yet.

    Args:
        path (str | PathLike | bytes): a file of one of ``FORMATS``, whatever its extension, or the
            content of one. Grey, palette and CMYK images become RGB, and an alpha channel is
            dropped. An animation gives its first frame. The EXIF orientation is applied.
        window (Sequence[float], optional): the values (low, high) that become 0 and 255 in files
            of more than 8 bits a channel, see :func:`~plrc_plugin.images.depth.read_deep`.
        max_pixels (int, optional): most pixels of a file that is decoded. Defaults to Pillow's
            limit.
        name (str): name of a content, for messages.

    Attributes:
        size (tuple[int, int]): upright (width, height) in pixels.
        orientation (int): EXIF's orientation; 1 if the pixels are stored upright.

    Raises:
        DecodingError: if the file is missing, unreadable, no image, or a decompression bomb.
    """

    def __init__(
        self,
        path: Union[str, os.PathLike, bytes],
        window: Optional[Window] = None,
        max_pixels: Optional[int] = None,
        name: str = '',
    ):
        self._window, self._raster = window, None
        self._max_pixels = max_pixels
        self._source: Union[str, bytes] = path if isinstance(path, bytes) else os.fspath(path)
        self.path = name if isinstance(path, bytes) else str(self._source)
        try:
            # A pipe would stall the worker, and a device may never end.
            if not isinstance(path, bytes) and not stat.S_ISREG(os.stat(path).st_mode):
                raise OSError('not a regular file')
            self._data = self._bytes_of_jpeg()
            with pixel_limit(max_pixels):
                self._header = jpeg.read_header(self._data)
                if self._header is None:
                    self._open_by_pillow()
                    return
        except UnidentifiedImageError:
            self._deep, self.orientation = True, 1
            self.size = self._size_of_other()
            return
        except Exception as error:  # Pillow's plug-ins raise many kinds of errors for broken files
            raise DecodingError(self.path, error) from error
        self.orientation = self._header.orientation
        self._set_size(self._header.size, self.orientation in TRANSPOSED)

    def _bytes_of_jpeg(self) -> bytes:
        """Reads all bytes of a file that starts like a JPEG, and the first two of any other."""
        if isinstance(self._source, bytes):
            return self._source
        with open(self.path, 'rb', buffering=0) as file:
            start = file.read(2)
            return start + file.readall() if start == jpeg.START else start

    def _open_by_pillow(self) -> None:
        file = BytesIO(self._source) if isinstance(self._source, bytes) else self._source
        self._image = Image.open(file, formats=FORMATS)
        self._deep = is_deep(self._image)  # first, as reading EXIF loads a PNG
        self.orientation = self._image.getexif().get(EXIF_TAG, 1)
        # For a TIFF, Pillow gives the upright size already.
        turned = self.orientation in TRANSPOSED and self._image.format != 'TIFF'
        self._set_size(self._image.size, turned)

    def _set_size(self, stored: tuple[int, int], transposed: bool) -> None:
        self.size = stored[::-1] if transposed else stored

    def _size_of_other(self) -> tuple[int, int]:
        """Reads the size of a file that Pillow does not know: a TIFF of planes or bands, or a HEIC,
        JPEG 2000 or DICOM file, which is read as a raster."""
        from plrc_plugin.images.rasters.opening import needs_own_reader
        from plrc_plugin.images.rasters.raster_file import RasterFile

        if needs_own_reader(self._source, self.path):
            self._raster = RasterFile(self._source, name=self.path)
            return self._raster.size
        try:
            return size_of_tiff(self._source)
        except Exception:  # tifffile raises many kinds of errors
            raise DecodingError(self.path, 'not an image in a known format') from None

    def decode(self, size_at_least: Optional[tuple[float, float]] = None) -> np.ndarray:
        """Returns the pixels. Call it once.

        Args:
            size_at_least (tuple[float, float], optional): upright (width, height) that is large
                enough. JPEGs are then decoded at 1/2, 1/4 or 1/8 of their size, if that is not
                smaller. Defaults to full size.

        Returns:
            np.ndarray: (H, W, 3) uint8 RGB.

        Raises:
            DecodingError: if the data are truncated or damaged, or have more than 8 bits a channel
                and need a window.
        """
        if self._raster is not None:
            return self._raster.decode()[:, :]
        scale = min(w / max(s, 1) for w, s in zip(self.size, size_at_least or self.size))
        reduction = next((r for r in (8, 4, 2) if r <= scale), 1)
        try:
            if self._header is not None:
                pixels = jpeg.decode(self._data, self._header, reduction)
                if pixels is not None:
                    return pixels
                with pixel_limit(self._max_pixels):
                    self._open_by_pillow()  # damaged: Pillow decides whether to refuse it
            if self._deep:
                return read_deep(self._source, self._window, self.orientation)
            image = self._image
            with image:
                if reduction > 1 and image.format == 'JPEG':
                    image.draft(None, (image.width // reduction, image.height // reduction))
                image.load()
                if self.orientation != 1:
                    image = ImageOps.exif_transpose(image)
                pixels = np.asarray(_to_rgb(image))
        except Exception as error:
            raise DecodingError(self.path, error) from error
        return pixels


def open_image(record: Mapping, window: Optional[Window] = None) -> ImageFile:
    """Opens the image of a record, whether it is a file or lies in a shard.

    Raises:
        DecodingError: as :class:`ImageFile`.
        SettingsError: if its shard cannot be read, or has changed.
    """
    source, name = image_source(record)
    return ImageFile(source, window, name=name)


def _to_rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == 'RGB' else image.convert('RGB')


def read_image(path: Union[str, os.PathLike], window: Optional[Window] = None) -> np.ndarray:
    """Reads an image as (H, W, 3) uint8 RGB, upright. See :class:`ImageFile`."""
    return ImageFile(path, window).decode()
