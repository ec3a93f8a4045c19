"""Scales stored values to the range of a network, in the same way for all images of a data set.

A window (low, high) of values becomes 0 to 255 in float32. So no precision is lost, and means and
deviations of 8-bit images keep their meaning. Values outside are clipped. NaN, and values that were
not measured, become 0.
"""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple, Optional, Union

import numpy as np

from plrc_plugin.errors import SettingsError, check_positive_integers
from plrc_plugin.images.rasters.raster import Raster, Source

Window = Union[str, Sequence[float], Sequence[Sequence[float]], Mapping]
MOST_CHANNELS = 16
# Windows that are measured on a sample of the images of a data set, see recipe/windows.py.
MEASURED = ('percentiles', 'dtype', 'dicom')
WINDOWS = (
    "(low, high), a list of one such pair for each channel, 'percentiles', "
    "dict(percentiles=(1, 99), images=200), 'dtype' or 'dicom'"
)
_BRIGHTEST = 255.0


class Reading(NamedTuple):
    """How the images of a data set are read.

    Attributes:
        channels: number of channels of every image, 1 to 16.
        windows: one pair (low, high) for all channels, or one for each. None keeps 8 bits as they
            are, uint8.
        max_pixels: most pixels that are decoded at once; None for the usual limit.
    """

    channels: int = 3
    windows: Optional[tuple[tuple[float, float], ...]] = None
    max_pixels: Optional[int] = None

    @classmethod
    def of(
        cls,
        owner: str,
        channels: int,
        window: Any,
        max_pixels: Optional[int] = None,
    ) -> 'Reading':
        """Makes a reading from the settings of a pipeline step.

        Raises:
            SettingsError: if a setting cannot work, or the window is not measured yet.
        """
        check_channels(owner, channels)
        if max_pixels is not None:
            check_positive_integers(owner, max_pixels=max_pixels)
        if is_measured(window):
            raise SettingsError(
                f"{owner}: window={window!r} is measured by runner_type='plrc_plugin."
                "PretrainRunner', but another runner is at work: set the numbers that the run "
                'printed, or call plrc_plugin.recipe.windows.measure_window'
            )
        return cls(channels, as_windows(owner, channels, window), max_pixels)

    def __str__(self) -> str:
        if self.windows is None:
            return f'{self.channels} channels of 8 bits'
        pairs = ', '.join(f'{low:.6g} to {high:.6g}' for low, high in self.windows)
        return f'{self.channels} channels, {pairs} become 0 to 255'


RGB = Reading()  # 8-bit RGB as it is


def check_channels(owner: str, channels: Any) -> None:
    """Raises SettingsError, naming ``owner``, unless ``channels`` is a number of channels."""
    if type(channels) is not int or not 1 <= channels <= MOST_CHANNELS:
        raise SettingsError(
            f'{owner}: channels must be an integer from 1 to {MOST_CHANNELS}, got {channels!r}'
        )


def is_measured(window: Any) -> bool:
    """Whether a window has to be measured on the images of the data set."""
    return (isinstance(window, str) and window in MEASURED) or isinstance(window, Mapping)


def as_windows(owner: str, channels: int, window: Any) -> tuple[tuple[float, float], ...]:
    """Returns the pairs of a window that is given in numbers.

    Raises:
        SettingsError: if it is no window, or has pairs for another number of channels.
    """
    pairs = [window] if _is_pair(window) else window
    good = isinstance(pairs, Sequence) and not isinstance(pairs, str) and all(map(_is_pair, pairs))
    if not good or len(pairs) not in (1, channels):
        raise SettingsError(
            f'{owner}: window must be {WINDOWS}, with low < high; for {channels} channels got '
            f'{window!r}'
        )
    return tuple((float(low), float(high)) for low, high in pairs)


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and len(value) == 2
        and all(isinstance(v, Real) and np.isfinite(v) for v in value)
        and value[0] < value[1]
    )


def fit_channels(raster: Raster, channels: int) -> list[int]:
    """Chooses the stored channels that give the declared ones.

    These are all stored channels; or all without alpha; or one channel three times, if three are
    declared.

    Raises:
        ValueError: if the file has other channels.
    """
    pages = getattr(raster, 'pages', 1)
    if pages == channels > 1:
        raster.take_pages()  # type: ignore[attr-defined]
    colours = raster.channels - raster.alpha
    if raster.channels == channels or colours == channels:
        return list(range(channels))
    if channels == 3 and colours == 1:
        return [0, 0, 0]
    alpha = f' ({raster.alpha} of them alpha)' * bool(raster.alpha)
    raise ValueError(
        f'it has {raster.channels} channels{alpha}'
        + (f' and {pages} pages' if pages > 1 else '')
        + f', and channels={channels} are declared'
    )


def scale(values: np.ndarray, raster: Raster, windows: Sequence[Sequence[float]]) -> np.ndarray:
    """Scales stored values (..., C) to float32 in [0, 255].

    Args:
        values: those of an image, or of a part of it.
        raster: the image that they come from. Its ``inverted`` and ``nodata`` are used.
        windows: one pair, or C.
    """
    low, high = np.asarray(windows, dtype=np.float64).T
    # float32 holds every integer of 16 bits. For wider integers the differences are taken first.
    wide = values.dtype.itemsize > 4 or (values.dtype.kind in 'iu' and values.dtype.itemsize > 2)
    kind = np.float64 if wide else np.float32
    unknown = None
    if values.dtype.kind == 'f':
        unknown = np.isnan(values)
    if raster.nodata is not None:
        missing = values == raster.nodata
        unknown = missing if unknown is None else unknown | missing
    with np.errstate(invalid='ignore', over='ignore'):
        scaled = values.astype(kind)
        scaled -= low.astype(kind)
        scaled *= (_BRIGHTEST / (high - low)).astype(kind)
    if unknown is not None:
        scaled[unknown] = 0
    np.clip(scaled, 0, _BRIGHTEST, out=scaled)
    if raster.inverted:
        np.subtract(_BRIGHTEST, scaled, out=scaled)
        if unknown is not None:
            scaled[unknown] = 0
    return scaled.astype(np.float32, copy=False)


def read_raster(source: Source, reading: Reading) -> np.ndarray:
    """Reads a whole image as (H, W, C) float32 in [0, 255], upright.

    Raises:
        DecodingError: if it cannot be read, or has other channels than declared.
    """
    from plrc_plugin.images.rasters.raster_file import RasterFile

    return np.ascontiguousarray(RasterFile(source, reading).decode()[:, :])


def visible(pixels: np.ndarray) -> np.ndarray:
    """Turns pixels (H, W, C) in [0, 255] of any type into (H, W, 3) uint8 to look at: the first
    three channels, or one as grey."""
    shown = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., [0, 0, 0]]
    if shown.dtype == np.uint8:
        return np.ascontiguousarray(shown)
    return np.ascontiguousarray(shown.clip(0, _BRIGHTEST).round().astype(np.uint8))
