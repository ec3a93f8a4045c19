"""Reads the images of mmseg's and mmdet's pipelines as pre-training read them."""

from typing import Any, Optional

import numpy as np

from plrc_plugin.checkpoints.reading_record import reading_of
from plrc_plugin.errors import SettingsError
from plrc_plugin.images.rasters.raster_file import RasterFile
from plrc_plugin.images.rasters.scaling import WINDOWS, Reading
from plrc_plugin.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadRaster:
    """Replaces ``LoadImageFromFile`` for images of 1 to 16 channels of any depth; values are in [0,
    255].

    Give either ``like``, or ``channels`` and ``window``.

    Args:
        like (str, optional): a work dir of pre-training, a checkpoint of it, or a file exported
            from one. Channels and window are then those of that run.
        channels (int, optional): number of channels of the images.
        window (optional): (low, high) of the values that become 0 and 255, or one such pair for
            each channel.
        max_pixels (int, optional): most pixels that are decoded at once.

    Adds ``results['img']``, (H, W, C) float32, three channels as BGR, as mmcv's loader gives them
    (set ``bgr_to_rgb=True`` there, and False else); ``img_shape`` and ``ori_shape``.

    Raises:
        SettingsError: if neither or both ways are given, or they cannot work.
    """

    def __init__(
        self,
        like: Optional[str] = None,
        channels: Optional[int] = None,
        window: Any = None,
        max_pixels: Optional[int] = None,
    ):
        if (like is None) == (channels is None):
            raise SettingsError(
                'LoadRaster: set like=<work dir or checkpoint of pre-training>, or channels and '
                f'window: {WINDOWS.split(", " + repr("percentiles"))[0]}'
            )
        if like is not None:
            self.reading = reading_of('LoadRaster', like)._replace(max_pixels=max_pixels)
        else:
            self.reading = Reading.of('LoadRaster', channels, window, max_pixels)  # type: ignore[arg-type]

    def __call__(self, results: dict) -> dict:
        image = RasterFile(results['img_path'], self.reading).decode()[:, :]
        if image.shape[2] == 3:
            image = image[..., ::-1]
        results['img'] = np.ascontiguousarray(image)
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def __repr__(self) -> str:
        return f'LoadRaster({self.reading})'
