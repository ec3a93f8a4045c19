"""Regions by segmenting each image; the segments can be kept on disk."""

import hashlib
import inspect
import os
import tempfile
from importlib.metadata import version
from typing import Any, Optional

import cv2
import numpy as np
from PIL import Image
from skimage import segmentation

from plrc_plugin.errors import SettingsError, check_positive_integers
from plrc_plugin.images.decoding import ImageFile
from plrc_plugin.images.stored import image_source
from plrc_plugin.registry import REGIONS

# About 14 and 10 regions per photograph at a long side of 160.
_DEFAULTS = dict(felzenszwalb=dict(scale=300, min_size=100), slic=dict(n_segments=16))


@REGIONS.register_module()
class SegmenterRegions:
    """Takes the segments of Felzenszwalb and Huttenlocher's method, or of SLIC, from scikit-image.
    No pixel is void.

    The image is segmented at a small size, because views look up only R x R cells. This takes about
    30 ms per photograph. With ``cache_dir`` it is done once for each: by the workers as training
    reads the image, or ahead of time by ``tools/segment_images.py``.

    Args:
        method (str): 'felzenszwalb' or 'slic'. Defaults to 'felzenszwalb'.
        long_side (int): long side in pixels to which the image is reduced before; smaller images
            keep their size. Defaults to 160.
        cache_dir (str, optional): folder that keeps the segments; it is made if missing. A file in
            it is found by the image's content and all settings. Defaults to none.
        **parameters: parameters of the method under scikit-image's names, e.g. ``scale``, ``sigma``
            and ``min_size`` or ``n_segments`` and ``compactness``.

    Raises:
        SettingsError: if a setting cannot work, or the cache cannot be written.
    """

    def __init__(
        self,
        method: str = 'felzenszwalb',
        long_side: int = 160,
        cache_dir: Optional[str] = None,
        **parameters: Any,
    ):
        if method not in list(_DEFAULTS):
            raise SettingsError(
                f'SegmenterRegions: method must be one of {list(_DEFAULTS)}, got {method!r}'
            )
        check_positive_integers('SegmenterRegions', long_side=long_side)
        self._segment = getattr(segmentation, method)
        for name in parameters:
            if name not in inspect.signature(self._segment).parameters:
                raise SettingsError(
                    f'SegmenterRegions: {method} of scikit-image has no parameter {name}'
                )
        self.parameters = {**_DEFAULTS[method], **parameters}
        self.long_side = long_side
        self.cache_dir = cache_dir
        settings = '_'.join(f'{k}={v}' for k, v in sorted(self.parameters.items()))
        self._settings = f'{method}_{long_side}_{settings}_skimage-{version("scikit-image")}'

    def __call__(self, record: dict) -> np.ndarray:
        source, name = image_source(record)
        file = ImageFile(source, name=name)
        if self.cache_dir is None:
            return self._labels(file)
        if not isinstance(source, bytes):
            with open(source, 'rb') as content:
                source = content.read()
        key = hashlib.blake2b(source, digest_size=16).hexdigest()
        path = os.path.join(self.cache_dir, self._settings, key[:2], f'{key}.png')
        try:
            with Image.open(path) as image:
                return np.array(image)
        except (OSError, SyntaxError):  # missing, or cut off by a crash
            labels = self._labels(file)
            self._keep(labels, path)
            return labels

    def _labels(self, file: ImageFile) -> np.ndarray:
        scale = min(1, self.long_side / max(file.size))
        width, height = (max(1, round(side * scale)) for side in file.size)
        image = cv2.resize(
            file.decode((width, height)), (width, height), interpolation=cv2.INTER_AREA
        )
        try:
            labels = self._segment(image, **self.parameters)
        except (TypeError, ValueError) as error:
            raise SettingsError(
                f'SegmenterRegions: {self.parameters} cannot be used for {file.path}: {error}'
            ) from error
        if labels.max() > np.iinfo(np.uint16).max:
            raise SettingsError(
                f'SegmenterRegions: {file.path} has {labels.max() + 1} segments, '
                'more than 65536: ask for larger ones, or lower long_side'
            )
        return labels.astype(np.uint16)

    def _keep(self, labels: np.ndarray, path: str) -> None:
        """Writes a file beside the name and renames it. Readers see a whole file or none. If
        several workers write the same segments, the last one wins."""
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            handle, partial = tempfile.mkstemp(dir=os.path.dirname(path), suffix='.partial')
            try:
                with os.fdopen(handle, 'wb') as file:
                    Image.fromarray(labels).save(file, 'PNG')
                os.replace(partial, path)
            except BaseException:
                os.unlink(partial)
                raise
        except OSError as error:
            raise SettingsError(
                f'SegmenterRegions: {path} cannot be written ({error}): choose '
                'another cache_dir, or make room'
            ) from error
