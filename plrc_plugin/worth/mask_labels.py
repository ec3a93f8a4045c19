"""Reads labels that are masks: a PNG for each image, with a number for each pixel."""

from pathlib import Path
from typing import Optional

import numpy as np
from PIL import Image

from plrc_plugin.errors import SettingsError
from plrc_plugin.worth.labels import MASKS, ImageFinder, LabelledImage, LabelledSet

VOID = 255
NAMES = 'classes.txt'


def read_mask_labels(folder: Path, images: Optional[Path]) -> LabelledSet:
    """Reads a folder of masks, see :func:`~plrc_plugin.worth.labels.read_labels`.

    0 is the background and 255 is void, unless 0 and 255 are the only numbers: then 255 is the one
    class. Names of the classes may stand in ``classes.txt`` in the folder, a line for each number
    from 1 on.

    Raises:
        SettingsError: if a mask has several channels, or an image is missing.
    """
    files = sorted(folder.glob('*.png'))
    find = ImageFinder(folder, images, [file.stem for file in files])
    found: set[int] = set()
    labelled = []
    for file in files:
        found |= set(np.unique(read_mask(file)).tolist())
        path = find(file.stem)
        if path.resolve() == file.resolve():
            raise SettingsError(
                f'labels: {folder} holds masks and no image named like {file.stem} beside them: '
                'name the folder of the images with --images'
            )
        labelled.append(LabelledImage(path, mask=file))
    values = sorted((found if found <= {0, VOID} else found - {VOID}) | {0})
    if len(values) < 2:
        raise SettingsError(f'labels: the masks of {folder} have no class but the background, 0')
    return LabelledSet(MASKS, _names(folder, values[1:]), labelled, tuple(values))


def read_mask(file: Path) -> np.ndarray:
    """Reads a mask (H, W) of integers.

    Raises:
        SettingsError: if it cannot be read, or has several channels.
    """
    try:
        mask = np.asarray(Image.open(file))
    except OSError as error:
        raise SettingsError(f'labels: {file} cannot be read: {error}') from error
    if mask.ndim != 2:
        raise SettingsError(
            f'labels: {file} has colours: a mask has one number for each pixel, 0 for the '
            'background, 255 for void, and the class else'
        )
    return mask.astype(np.int64)


def numbered(mask: np.ndarray, values: tuple[int, ...]) -> np.ndarray:
    """Returns a mask (H, W) uint8 with 0, 1, ... in place of ``values``, and 255 for all other
    numbers."""
    table = {value: number for number, value in enumerate(values)}
    kept = np.full(mask.shape, VOID, np.uint8)
    for value, number in table.items():
        kept[mask == value] = number
    return kept


def _names(folder: Path, values: list[int]) -> tuple[str, ...]:
    file = folder / NAMES
    lines = file.read_text(encoding='utf-8').split('\n') if file.is_file() else []
    named = {number: line.strip() for number, line in enumerate(lines, 1) if line.strip()}
    return tuple(named.get(value, f'class {value}') for value in values)
