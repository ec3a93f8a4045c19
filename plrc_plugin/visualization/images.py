"""The images of a folder that networks are to be asked about."""

import os
from pathlib import Path
from typing import Union

import numpy as np

from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.errors import SettingsError
from plrc_plugin.images.decoding import EXTENSIONS, DecodingError, open_image
from plrc_plugin.images.sources import is_plain
from plrc_plugin.visualization.affinity import MIN_SIDE


def read_images(folder: Union[str, Path], count: int) -> list[tuple[str, np.ndarray]]:
    """(name, (H, W, 3) uint8 RGB) of a folder's first ``count`` images, at any depth, by name; or
    of shards, or of an address, see :class:`~plrc_plugin.datasets.ImageFolder`.

    Raises:
        SettingsError: if there is none, or one is damaged or smaller than 32 pixels.
    """
    images = []
    for record in _records(os.fspath(folder), count):
        try:
            image = open_image(record).decode()
        except DecodingError as error:
            raise SettingsError(f'{error}; remove it') from error
        if min(image.shape[:2]) < MIN_SIDE:
            raise SettingsError(
                f'{record["img_path"]} is too small, {image.shape[1]} x {image.shape[0]} pixels: '
                f'each side needs {MIN_SIDE}; remove it'
            )
        images.append((record['name'], image))
    return images


def _records(folder: str, count: int) -> list[dict]:
    if not is_plain(folder):
        data = ImageFolder(folder)
        return [data.image_record(index) for index in range(min(count, len(data)))]
    paths = sorted(p for p in Path(folder).rglob('*') if p.suffix.lower() in EXTENSIONS)[:count]
    if not paths:
        raise SettingsError(f'{folder} holds no images ({", ".join(EXTENSIONS)})')
    return [dict(img_path=str(path), name=str(path.relative_to(folder))) for path in paths]
