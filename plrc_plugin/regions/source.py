"""The checks that every region source's labels must pass, and the error for an image without
regions."""

from typing import Union

import numpy as np
import torch
from torch import Tensor

from plrc_plugin.errors import SettingsError

VOID = -1  # the label of pixels of no region, object or class


class MissingRegions(Exception):
    """A region source has no regions for an image. ``SampleRegionPoints.missing`` decides what
    happens."""


def as_labels(labels: Union[np.ndarray, Tensor], origin: str) -> Tensor:
    """Returns a label map as a tensor that can be indexed.

    Args:
        labels (np.ndarray | Tensor): (H, W) integers of any type, negative = void.
        origin (str): source and file, for the message.

    Returns:
        Tensor: (H, W) uint8, int16, int32 or int64.

    Raises:
        SettingsError: if it is not a map of integers, is empty, or an id does not fit int64.
    """
    if not isinstance(labels, Tensor):
        labels = np.asarray(labels)
        if labels.dtype == np.uint64 and labels.max(initial=0) > np.iinfo(np.int64).max:
            raise SettingsError(
                f'{origin}: id {labels.max()} is beyond int64: renumber the '
                'regions, e.g. with np.unique(labels, return_inverse=True)'
            )
        if labels.dtype.kind in 'ub':
            # uint8 is the only unsigned type that torch can index.
            wider = {1: np.uint8, 2: np.int32}.get(labels.dtype.itemsize, np.int64)
            labels = labels.astype(wider, copy=False)
        if labels.dtype.kind != 'i' and labels.dtype != np.uint8:
            raise SettingsError(
                f'{origin}: labels must be integers, got {labels.dtype}: save '
                'region ids, e.g. with labels.astype(np.int32)'
            )
        labels = torch.from_numpy(
            np.ascontiguousarray(labels.astype(labels.dtype.newbyteorder('='), copy=False))
        )
    if labels.is_floating_point() or labels.dim() != 2 or labels.numel() == 0:
        raise SettingsError(
            f'{origin}: a label map must be (H, W) integers, got '
            f'{tuple(labels.shape)} {labels.dtype}'
        )
    return labels
