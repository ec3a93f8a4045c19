"""The images of a folder that networks are to be asked about."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.config import Config

from plrc_plugin.errors import SettingsError
from plrc_plugin.images.decoding import EXTENSIONS, DecodingError, read_image
from plrc_plugin.registry import DATASETS
from plrc_plugin.visualization.affinity import MIN_SIDE


def read_images(folder: Path, count: int) -> list[tuple[str, np.ndarray]]:
    """(name, (H, W, 3) uint8 RGB) of a folder's first ``count`` images, at any depth, by name.

    Raises:
        SettingsError: if there is none, or one is damaged or smaller than 32 pixels.
    """
    paths = sorted(p for p in Path(folder).rglob('*') if p.suffix.lower() in EXTENSIONS)[:count]
    if not paths:
        raise SettingsError(f'{folder} holds no images ({", ".join(EXTENSIONS)})')
    return [(str(path.relative_to(folder)), _checked(path)) for path in paths]


def training_images(cfg: Config, count: int) -> list[tuple[str, np.ndarray]]:
    """(name, (H, W, 3) uint8 RGB) of ``count`` images that a run trains on, evenly spaced; none
    where their folder is gone.

    Raises:
        SettingsError: if one is damaged or smaller than 32 pixels.
    """
    settings = (cfg.get('train_dataloader') or {}).get('dataset')
    if not settings or not Path(settings.get('data_root') or '').is_dir():
        return []
    data = DATASETS.build(dict(settings, pipeline=[]))
    root = Path(data.data_root)
    names = [data.get_data_info(i)['img_path'] for i in spaced(range(len(data)), count)]
    return [(os.path.relpath(root / name, root), _checked(root / name)) for name in names]


def spaced(items: Sequence, count: int) -> list:
    """At most ``count`` of them, evenly spaced, first and last included."""
    keep = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))
    return [items[i] for i in keep]


def _checked(path: Path) -> np.ndarray:
    try:
        image = read_image(path)
    except DecodingError as error:
        raise SettingsError(f'{error}; remove it') from error
    if min(image.shape[:2]) < MIN_SIDE:
        raise SettingsError(
            f'{path} is too small, {image.shape[1]} x {image.shape[0]} pixels: '
            f'each side needs {MIN_SIDE}; remove it'
        )
    return image
