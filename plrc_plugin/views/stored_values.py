"""A sample of the values of an image as they are stored, on which a window is measured."""

from typing import NamedTuple, Optional

import numpy as np

from plrc_plugin.images.decoding import DecodingError
from plrc_plugin.images.rasters import Raster, open_raster
from plrc_plugin.images.rasters.raster import Box
from plrc_plugin.images.rasters.scaling import fit_channels
from plrc_plugin.images.stored import image_source
from plrc_plugin.randomness import stream
from plrc_plugin.registry import TRANSFORMS

_VALUES = 20_000  # values of an image, in each channel
_WHOLE = 4096 * 4096  # pixels; of larger images only parts are read
_PARTS, _SIDE = 12, 256


class Stored(NamedTuple):
    """What a file holds, or a sample of it.

    Attributes:
        values: (N, C) of the file's type, without values that are not finite or were not measured.
        dtype: type of the file's values.
        limits: lowest and highest value of its format; None for floats.
        stated: the window that it asks viewers to show, or None.
    """

    values: np.ndarray
    dtype: str
    limits: Optional[tuple[float, float]]
    stated: Optional[tuple[float, float]]


@TRANSFORMS.register_module()
class StoredValues:
    """Adds ``results['stored_values']``, a :class:`Stored` with some thousand values of the image.

    Args:
        channels (int): number of channels of the images.
        max_pixels (int, optional): most pixels that are decoded at once.
    """

    def __init__(self, channels: int, max_pixels: Optional[int] = None):
        self.channels, self.max_pixels = channels, max_pixels

    def __call__(self, results: dict) -> dict:
        source, path = image_source(results)
        try:
            raster = open_raster(source, self.max_pixels, path)
            taken = fit_channels(raster, self.channels)
            rng, area = stream(results['sample_key'], 'stored'), results.get('area')
            values = _some(raster, rng, area or (0, 0, *raster.size))[:, taken]
            if raster.nodata is not None:
                values = values[(values != raster.nodata).all(1)]
            if values.dtype.kind == 'f':
                values = values[np.isfinite(values).all(1)]
        except Exception as error:
            raise DecodingError(path, error) from error
        results['stored_values'] = Stored(
            values, str(raster.dtype.newbyteorder('=')), raster.limits, raster.stated_window
        )
        return results


def _some(raster: Raster, rng: np.random.Generator, area: Box) -> np.ndarray:
    """Takes (N, C) values, evenly spread over an area, or over parts of a large area."""
    left, top, width, height = area
    if not raster.windowed or width * height <= _WHOLE:
        parts = [raster.read(area)]
    else:
        wide, high = min(_SIDE, width), min(_SIDE, height)
        places = rng.random((_PARTS, 2)) * (width - wide + 1, height - high + 1)
        parts = [raster.read((left + int(x), top + int(y), wide, high)) for x, y in places]
    flat = np.concatenate([part.reshape(-1, part.shape[2]) for part in parts])
    return np.array(flat[:: -(-len(flat) // _VALUES)])
