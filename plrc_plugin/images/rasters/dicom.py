"""Reads DICOM by pydicom: the values that the stored numbers stand for, such as Hounsfield
units."""

import os
import warnings
from io import BytesIO
from typing import Any, Optional

import numpy as np

from plrc_plugin.images.missing import needs
from plrc_plugin.images.rasters.raster import Box, Raster, Source, limits_of

SUFFIXES = ('.dcm', '.dicom')


def is_dicom(head: bytes, name: str) -> bool:
    """Whether these first bytes are those of a DICOM file. Files without the preamble are
    recognised by their names."""
    return head[128:132] == b'DICM' or name.lower().endswith(SUFFIXES)


class DicomRaster(Raster):
    """The first frame of a file. Rescale slope and intercept, or the modality's table, are applied.
    Padding becomes NaN. MONOCHROME1 is inverted after scaling, so that windows are in the units of
    the values."""

    kind = 'DICOM'

    def __init__(self, source: Source):
        pydicom = needs('pydicom', 'dicom', 'DICOM')
        content = BytesIO(source) if isinstance(source, bytes) else os.fspath(source)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # files that are readable but break the standard
            self._data = data = pydicom.dcmread(content, force=True)
        if 'PixelData' not in data and 'FloatPixelData' not in data:
            raise ValueError('there are no pixels in this DICOM file')
        self.set_sizes([(int(data.Columns), int(data.Rows))])
        meaning = data.PhotometricInterpretation
        self.channels = 3 if meaning == 'PALETTE COLOR' else int(data.SamplesPerPixel)
        self.inverted = meaning == 'MONOCHROME1'
        self._rescale = _rescale_of(data)
        self._padding = _padding_of(data)
        signed, bits = data.get('PixelRepresentation', 0), int(data.get('BitsAllocated', 16))
        stored = np.dtype(f'{"i" if signed else "u"}{max(bits, 8) // 8}')
        if 'PixelData' not in data:
            stored = np.dtype(np.float32)
        if meaning == 'PALETTE COLOR':
            stored = np.dtype(f'u{int(data.RedPaletteColorLookupTableDescriptor[2]) // 8}')
        bits_stored = None if meaning == 'PALETTE COLOR' else data.get('BitsStored')
        low_high = limits_of(stored, bits_stored)
        changed = self._rescale is not None or 'ModalityLUTSequence' in data
        self.dtype = np.dtype(np.float64) if changed or self._padding else stored
        if low_high is not None and self._rescale is not None:
            slope, intercept = self._rescale
            low_high = tuple(sorted(slope * value + intercept for value in low_high))
        self.limits = low_high
        self.stated_window = _stated_window(data)

    def read_stored(self, box: Box, level: int) -> np.ndarray:
        from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

        data = self._data
        frames = int(data.get('NumberOfFrames', 1) or 1)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            stored = pixel_array(data, index=0 if frames > 1 else None)
        if data.PhotometricInterpretation == 'PALETTE COLOR':
            values = apply_color_lut(stored, data)
        elif 'ModalityLUTSequence' in data:
            values = apply_modality_lut(stored, data).astype(self.dtype)
        elif self._rescale is not None:
            values = stored * float(self._rescale[0]) + float(self._rescale[1])
        else:
            values = stored.astype(self.dtype, copy=False)
        if self._padding:
            low, high = self._padding
            values[(stored >= low) & (stored <= high)] = np.nan
        if values.ndim == 2:
            values = values[..., None]
        left, top, width, height = box
        return values[top : top + height, left : left + width]


def _places(data: Any, sequence: str):
    """Yields the data set, and the groups in which files of several frames keep the attributes of
    frames."""
    yield data
    for name in ('PerFrameFunctionalGroupsSequence', 'SharedFunctionalGroupsSequence'):
        for group in data.get(name) or ():
            yield from group.get(sequence) or ()
            break  # those of the first frame


def _rescale_of(data: Any) -> Optional[tuple[float, float]]:
    for place in _places(data, 'PixelValueTransformationSequence'):
        if 'RescaleSlope' in place:
            return float(place.RescaleSlope), float(place.get('RescaleIntercept', 0) or 0)
    return None


def _padding_of(data: Any) -> Optional[tuple[int, int]]:
    """Returns the range of stored values that stand for no measurement, or None."""
    value = data.get('PixelPaddingValue')
    if not isinstance(value, int):
        return None
    other = data.get('PixelPaddingRangeLimit')
    other = other if isinstance(other, int) else value
    return min(value, other), max(value, other)


def _stated_window(data: Any) -> Optional[tuple[float, float]]:
    """Returns (low, high) of the file's first window, by the standard's linear function."""
    for place in _places(data, 'FrameVOILUTSequence'):
        centre, width = place.get('WindowCenter'), place.get('WindowWidth')
        if centre is None or width is None:
            continue
        centre, width = (
            float(v[0] if isinstance(v, (list, tuple)) or hasattr(v, '__len__') else v)
            for v in (centre, width)
        )
        if width > 1:
            return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    return None
