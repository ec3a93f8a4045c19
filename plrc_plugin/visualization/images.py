"""The images of a folder that networks are to be asked about."""

from pathlib import Path

import numpy as np

from plrc_plugin.errors import SettingsError
from plrc_plugin.images.decoding import EXTENSIONS, DecodingError, read_image
from plrc_plugin.visualization.affinity import MIN_SIDE


def read_images(folder: Path, count: int) -> list[tuple[str, np.ndarray]]:
    """(name, (H, W, 3) uint8 RGB) of a folder's first ``count`` images, at any depth, by name.

    Raises:
        SettingsError: if there is none, or one is damaged or smaller than 32 pixels.
    """
    paths = sorted(p for p in Path(folder).rglob('*') if p.suffix.lower() in EXTENSIONS)[:count]
    if not paths:
        raise SettingsError(f'{folder} holds no images ({", ".join(EXTENSIONS)})')
    images = []
    for path in paths:
        try:
            image = read_image(path)
        except DecodingError as error:
            raise SettingsError(f'{error}; remove it') from error
        if min(image.shape[:2]) < MIN_SIDE:
            raise SettingsError(
                f'{path} is too small, {image.shape[1]} x {image.shape[0]} pixels: '
                f'each side needs {MIN_SIDE}; remove it'
            )
        images.append((str(path.relative_to(folder)), image))
    return images
