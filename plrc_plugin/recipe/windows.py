"""Measures the window of values of a data set before the run. It is then the same for every
image."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple, Optional

import numpy as np
from mmengine.registry import DefaultScope

from plrc_plugin.checkpoints.reading_record import find_record, record_of
from plrc_plugin.datasets.keys import KeyedDataset, takes_keys
from plrc_plugin.datasets.pipelines import with_pipeline
from plrc_plugin.errors import SettingsError, check_positive_integers
from plrc_plugin.images.rasters.scaling import WINDOWS, Reading, check_channels, is_measured
from plrc_plugin.randomness import SampleKey
from plrc_plugin.registry import DATASETS
from plrc_plugin.views.stored_values import Stored

PERCENTILES, IMAGES = (0.5, 99.5), 200


class Measured(NamedTuple):
    """A window in numbers, one pair for each channel, and a sentence that says how it was found."""

    window: list[list[float]]
    how: str


def measure_window(
    dataset: Any, channels: int, window: Any = 'percentiles', max_pixels: Optional[int] = None
) -> Measured:
    """Measures the window of a data set.

    Args:
        dataset (dict): config of an ``ImageFolder``, or of data sets around it; its pipeline is not
            used.
        channels (int): number of channels of the images.
        window: 'percentiles', or ``dict(percentiles=(low, high), images=N)``, for percentiles of
            the values in a sample of images, for each channel; 'dtype' for the range that the
            format of the files can hold; 'dicom' for the window that the files state.
        max_pixels (int, optional): most pixels that are decoded at once.

    Raises:
        SettingsError: if a setting cannot work, no image can be read, or the images do not agree.
    """
    owner = f'window={window!r}'
    check_channels('TwoViews', channels)
    low, high, images = _percentiles(owner, window)
    stored = _sample(dataset, channels, images, max_pixels, owner)
    said = f'{len(stored)} images of {stored[0].dtype}'
    if window == 'dtype':
        limits = stored[0].limits
        if limits is None:
            raise SettingsError(
                f'{owner}: {said} have no range of their own: set window=(low, high) or '
                "'percentiles'"
            )
        return Measured([[float(v) for v in limits]], f'what the format holds, of {said}')
    if window == 'dicom':
        return _stated(owner, stored, said)
    values = np.concatenate([image.values for image in stored])
    if not len(values):
        raise SettingsError(f'{owner}: {said} hold no value that was measured')
    pairs = np.percentile(values.astype(np.float64), (low, high), axis=0).T.tolist()
    pairs = [[a, b if b > a else a + 1] for a, b in pairs]
    return Measured(pairs, f'percentiles {low:g} and {high:g} of {len(values)} values of {said}')


def resolve_windows(cfg: Any, resumed: bool = False) -> Optional[dict]:
    """Measures the windows in a run's config that have to be measured, and puts in their numbers,
    in place.

    The images of validation and hooks are read in the same way. A resumed run keeps the window that
    it began with.

    Args:
        cfg (Config): the config of the run.
        resumed (bool): whether the run goes on from a checkpoint.

    Returns:
        dict | None: the record to keep with the run; None for images of 8-bit RGB.

    Raises:
        SettingsError: if the window cannot be measured, differs between pipelines, or is not that
            of the run that is resumed.
    """
    dataset = (cfg.get('train_dataloader') or {}).get('dataset')
    steps = [step for step in _steps(dataset) if step.get('channels') is not None]
    if not steps:
        return None
    first = steps[0]
    asked = [(step['channels'], step.get('window'), step.get('max_pixels')) for step in steps]
    if any(other != asked[0] for other in asked):
        raise SettingsError(
            'the pipelines of train_dataloader read images in different ways: '
            f'{asked[0]} and {next(other for other in asked if other != asked[0])} (channels, '
            'window, max_pixels); a network needs one'
        )
    channels, window, max_pixels = asked[0]
    before = find_record(cfg.work_dir) if resumed else None
    if is_measured(window):
        if before is not None:
            found = Measured(before['window'], before['how'])
        else:
            with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'):
                found = measure_window(dataset, channels, window, max_pixels)
    else:
        found = Measured(window, 'by hand')
    if found.window is None:
        raise SettingsError(f'TwoViews: channels={channels} needs a window of values: {WINDOWS}')
    reading = Reading.of('TwoViews', channels, found.window, max_pixels)
    if before is not None:
        earlier = Reading.of('TwoViews', before['channels'], before['window'], max_pixels)
        if earlier != reading:
            raise SettingsError(
                f'the run to resume reads {earlier}, and the config says {reading}: set that '
                'window and those channels, or start in another work dir'
            )
    for step in steps:
        step['window'] = [list(pair) for pair in reading.windows or ()]
    read_likewise(cfg, first)
    return record_of(reading, found.how)


def read_likewise(cfg: Any, step: Any) -> None:
    """Gives the data sets of masks in a config the reading of a pipeline step, if they have
    none."""
    for name in ('val_dataloader', 'test_dataloader', 'custom_hooks', 'default_hooks'):
        for part in _parts(cfg.get(name)):
            kind = DATASETS.get(part['type']) if isinstance(part.get('type'), str) else None
            if getattr(kind, 'READS_LIKE_TRAINING', False) and part.get('channels') is None:
                for setting in ('channels', 'window', 'max_pixels'):
                    if step.get(setting) is not None:
                        part[setting] = step[setting]


def reading_step(cfg: Any) -> Optional[Any]:
    """Returns the first pipeline step of a config's training that declares channels."""
    dataset = (cfg.get('train_dataloader') or {}).get('dataset')
    return next((step for step in _steps(dataset) if step.get('channels') is not None), None)


def _steps(dataset: Any) -> Iterator[Any]:
    for part in _parts(dataset):
        for step in part.get('pipeline') or ():
            if isinstance(step, dict) and 'channels' in step:
                yield step


def _parts(value: Any) -> Iterator[Any]:
    """Yields every dict with a type within a value."""
    if isinstance(value, (list, tuple)):
        for entry in value:
            yield from _parts(entry)
    elif isinstance(value, dict):
        if 'type' in value:
            yield value
        for name, entry in value.items():
            if name != 'pipeline':
                yield from _parts(entry)


def _percentiles(owner: str, window: Any) -> tuple[float, float, int]:
    """Returns the settings of a window that has to be measured."""
    if not is_measured(window):
        raise SettingsError(f'{owner}: it must be {WINDOWS}')
    given = dict(window) if not isinstance(window, str) else {}
    low, high = given.pop('percentiles', PERCENTILES)
    images = given.pop('images', IMAGES)
    check_positive_integers(owner, images=images)
    if given or not 0 <= low < high <= 100:
        raise SettingsError(
            f'{owner}: it must be dict(percentiles=(low, high), images=N) with 0 <= low < high <= '
            '100'
        )
    return low, high, images


def _sample(
    dataset: Any, channels: int, images: int, max_pixels: Optional[int], owner: str
) -> list[Stored]:
    """Reads a sample of evenly spread images. Those that cannot be read are replaced, as in
    training."""
    step = dict(type='plrc_plugin.StoredValues', channels=channels, max_pixels=max_pixels)
    built = DATASETS.build(with_pipeline(dataset, lambda _: [step]))
    built = built if takes_keys(built) else KeyedDataset(built)
    count = min(images, len(built))
    try:
        stored = [
            built[SampleKey(0, 0, place * len(built) // count)]['stored_values']
            for place in range(count)
        ]
    except RuntimeError as error:  # too many images in a row cannot be decoded
        raise SettingsError(f'{owner} cannot be measured: {error}') from error
    depths = Counter(image.dtype for image in stored)
    ranges = Counter(image.limits for image in stored)
    if len(depths) > 1 or (len(ranges) > 1 and 'dtype' in owner):
        counted = ', '.join(
            f'{n} of {dtype}{f" ({low:g} to {high:g})" if len(depths) == 1 else ""}'
            for (dtype, (low, high)), n in Counter(
                (image.dtype, image.limits or (0, 0)) for image in stored
            ).most_common()
        )
        raise SettingsError(
            f'{owner}: the images have different depths: {counted}. Convert them to one, leave '
            'some out (exclude), or set window=(low, high) to what their values have in common'
        )
    return stored


def _stated(owner: str, stored: list[Stored], said: str) -> Measured:
    windows = Counter(image.stated for image in stored).most_common()
    if len(windows) > 1 or windows[0][0] is None:
        texts = [
            f'{n} state {"none" if pair is None else f"({pair[0]:g}, {pair[1]:g})"}'
            for pair, n in windows[:4]
        ]
        raise SettingsError(
            f'{owner}: of {said}, {", ".join(texts)}: choose one, e.g. window=(-160, 240) for soft '
            "tissue in Hounsfield units, or 'percentiles'"
        )
    return Measured([list(windows[0][0])], f'the window that {said} state')
