"""Regions from label maps on disk, one file per image."""

import os
import stat
from collections.abc import Sequence
from typing import Optional

import numpy as np
from PIL import Image

from plrc_plugin.errors import SettingsError
from plrc_plugin.regions.source import VOID, MissingRegions, as_labels
from plrc_plugin.registry import REGIONS


@REGIONS.register_module()
class LabelFiles:
    """Reads the regions of ``n01/a.jpg`` from ``<root>/n01/a<suffix>``. The files are in a tree
    that mirrors the images', or beside the images.

    A map has a label for each pixel of the upright image, with EXIF orientation applied. A file
    outside the root is refused, whether ``..`` or a link leads there.

    Args:
        suffix (str): ends in ``.png`` (one channel of 8 or 16 bits, or a palette, whose indices are
            the ids) or ``.npz`` (one (H, W) integer array, negative = void). PNG files beside the
            images need ``ImageFolder.exclude``. Defaults to '.png'.
        root (str, optional): folder of the maps. Defaults to the images' ``data_root``.
        void (Sequence[int]): ids that mean void, such as ``(0, 255)``. Defaults to none.

    Raises:
        SettingsError: if a setting cannot work, and for an image, if its file is outside the root,
            cannot be read, holds no integers or has not the image's size.
    """

    def __init__(self, suffix: str = '.png', root: Optional[str] = None, void: Sequence[int] = ()):
        if not str(suffix).endswith(('.png', '.npz')):
            raise SettingsError(f'LabelFiles: suffix must end in .png or .npz, got {suffix!r}')
        if root is not None and not os.path.isdir(root):
            raise SettingsError(f'LabelFiles: root={root!r} is not a folder')
        if not isinstance(void, (list, tuple)) or not all(isinstance(i, int) for i in void):
            raise SettingsError(f'LabelFiles: void must be a list of ids, got {void!r}')
        self.suffix = suffix
        self.root = root
        self.void = tuple(void)

    def __call__(self, record: dict) -> np.ndarray:
        path = self._path(record)
        if not os.path.exists(path):
            raise MissingRegions(f'{record["img_path"]} has no label map {path}: make it')
        labels = read_labels(path)
        width, height = record['size']
        if labels.shape != (height, width):
            turned = labels.shape == (width, height)
            raise SettingsError(
                f'LabelFiles: {path} is {labels.shape[1]} x {labels.shape[0]} pixels, its image '
                f'{record["img_path"]} {width} x {height}'
                + (
                    ' once its EXIF orientation is applied: turn the map likewise'
                    if turned
                    else ': make the map at the size of the image, or resize it to the nearest '
                    'label'
                )
            )
        if self.void:
            labels = np.where(np.isin(labels, self.void), VOID, labels.astype(np.int64))
        return labels

    def _path(self, record: dict) -> str:
        root = os.path.realpath(self.root or record['data_root'])
        path = os.path.realpath(
            os.path.join(root, os.path.splitext(record['name'])[0] + self.suffix)
        )
        if os.path.commonpath([root, path]) != root:
            raise SettingsError(
                f'LabelFiles: the label map of {record["name"]!r} would be {path}, '
                f'outside {root}: put it there, or set root'
            )
        if path == os.path.realpath(record['img_path']):
            raise SettingsError(
                f'LabelFiles: {path} is the image itself: set root, or a suffix '
                "such as '_regions.png'"
            )
        return path


def read_labels(path: str) -> np.ndarray:
    """Reads the (H, W) integers of a PNG or npz file.

    Raises:
        SettingsError: if the file cannot be read or holds something else.
    """
    try:
        # A pipe would stall the worker, and a device may never end.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError('not a regular file')
        labels = _read_npz(path) if path.endswith('.npz') else _read_png(path)
    except SettingsError:
        raise
    except Exception as error:  # broken files raise many kinds of errors
        raise SettingsError(
            f'LabelFiles: {path} cannot be read ({type(error).__name__}: '
            f'{" ".join(str(error).split())}): make it anew'
        ) from error
    return as_labels(labels, f'LabelFiles: {path}').numpy()


def _read_npz(path: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as arrays:
        if len(arrays.files) != 1:
            raise SettingsError(
                f'LabelFiles: {path} must hold one array, has {arrays.files}: save '
                'it with np.savez_compressed(path, labels)'
            )
        return arrays[arrays.files[0]]


def _read_png(path: str) -> np.ndarray:
    with Image.open(path, formats=['PNG']) as image:
        if image.mode not in ('1', 'L', 'P', 'I', 'I;16'):
            raise SettingsError(
                f'LabelFiles: {path} has colours ({image.mode}), not ids: save one '
                'channel of 8 or 16 bits, or larger ids as .npz'
            )
        return np.array(image)
