"""Reads images for pictures: those of a folder, or those of a run."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Union

import numpy as np
from mmengine.config import Config

from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.datasets.unread_images import UnreadImages
from plrc_plugin.errors import SettingsError
from plrc_plugin.images.decoding import EXTENSIONS, DecodingError, open_image
from plrc_plugin.images.sources import is_plain
from plrc_plugin.visualization.affinity import MIN_SIDE


def read_images(folder: Union[str, Path], count: int) -> list[tuple[str, np.ndarray]]:
    """Returns (name, (H, W, 3) uint8 RGB) of the first ``count`` images by name in a folder, at any
    depth, in shards or at an address, see :class:`~plrc_plugin.datasets.ImageFolder`.

    Raises:
        SettingsError: if there is none, or one is damaged or smaller than 32 pixels.
    """
    return [(record['name'], _checked(record)) for record in _records(os.fspath(folder), count)]


def _records(folder: str, count: int) -> list[dict]:
    if not is_plain(folder):
        data = ImageFolder(folder)
        return [data.image_record(index) for index in range(min(count, len(data)))]
    paths = sorted(p for p in Path(folder).rglob('*') if p.suffix.lower() in EXTENSIONS)[:count]
    if not paths:
        raise SettingsError(f'{folder} holds no images ({", ".join(EXTENSIONS)})')
    return [dict(img_path=str(path), name=str(path.relative_to(folder))) for path in paths]


def training_images(cfg: Config, count: int) -> list[tuple[str, np.ndarray]]:
    """Returns (name, (H, W, 3) uint8 RGB) of ``count`` evenly spaced images that a run trains on.
    Images that cannot be read as 8-bit RGB are left out."""
    images: list[tuple[str, np.ndarray]] = []
    try:
        data = UnreadImages(cfg.train_dataloader.dataset)
    except (SettingsError, AttributeError, OSError):
        return images
    for record in (data[index] for index in spaced(range(len(data)), count)):
        with suppress(SettingsError, KeyError):
            name = record.get('name') or os.path.basename(record['img_path'])
            images.append((name, _checked(record)))
    return images


def spaced(items: Sequence, count: int) -> list:
    """Returns at most ``count`` items, evenly spaced, with the first and the last."""
    keep = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))
    return [items[i] for i in keep]


def _checked(record: Mapping) -> np.ndarray:
    try:
        image = open_image(record).decode()
    except DecodingError as error:
        raise SettingsError(f'{error}; remove it') from error
    if min(image.shape[:2]) < MIN_SIDE:
        raise SettingsError(
            f'{record["img_path"]} is too small, {image.shape[1]} x {image.shape[0]} pixels: '
            f'each side needs {MIN_SIDE}; remove it'
        )
    return image
