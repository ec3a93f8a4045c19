"""Divides images and masks into a grid of cells, on which features and truth are compared."""

import cv2
import numpy as np
from torch.utils.data import Dataset

from plrc_plugin.datasets.clean_photographs import CleanPhotographs
from plrc_plugin.errors import SettingsError, check_positive_integers
from plrc_plugin.regions import VOID
from plrc_plugin.registry import DATASETS
from plrc_plugin.views.augmentation import resize


def majority(mask: np.ndarray, cells: int) -> np.ndarray:
    """Returns the most frequent label of each cell, and the smallest of equally frequent ones.

    Args:
        mask: (S, S) integers, S a multiple of ``cells``; -1 is void and does not vote.
        cells: number of cells per side.

    Returns:
        (cells, cells) int64; -1 if a cell is all void.
    """
    side = len(mask) // cells
    blocks = mask.reshape(cells, side, cells, side).transpose(0, 2, 1, 3).reshape(cells, cells, -1)
    labels = np.setdiff1d(mask, VOID).astype(np.int64)
    if not len(labels):
        return np.full((cells, cells), VOID)
    counts = np.stack([(blocks == label).sum(2) for label in labels], 2)
    return np.where(counts.any(2), labels[counts.argmax(2)], VOID)


@DATASETS.register_module()
class ProbeCells(Dataset):
    """Gives the images of two data sets, one to fit on and one to score on, as squares and cells.

    Args:
        fit, score: configs of :class:`~plrc_plugin.datasets.VOCMasks` or ``COCOMasks``.
        size: side in pixels to which images are resized, whatever their shape. Defaults to 224.
        cells: number of cells per side, which must divide ``size``. Defaults to 14.

    Raises:
        SettingsError: if the sizes do not fit, or the two sets have different classes.
    """

    def __init__(self, fit: dict, score: dict, size: int = 224, cells: int = 14) -> None:
        check_positive_integers('ProbeCells', size=size, cells=cells)
        if size % cells:
            raise SettingsError(
                f'ProbeCells: size must be a multiple of cells, got {size} and {cells}'
            )
        self.parts = [DATASETS.build(fit), DATASETS.build(score)]
        if self.parts[0].classes != self.parts[1].classes:
            raise SettingsError('ProbeCells: fit and score must have the same classes')
        self.size, self.cells = size, cells
        self.metainfo = dict(classes=self.parts[0].classes)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Returns ``pixels`` (S, S, 3) uint8, or (S, S, C) float32 with declared channels;
        ``semantic`` and ``instances`` (cells, cells) int64, and ``semantic_mask`` and
        ``instance_mask`` (S, S) int32, where -1 is void; and ``fit``, whether the image is one to
        fit on."""
        fit = index < len(self.parts[0])
        item = self.parts[not fit][index if fit else index - len(self.parts[0])]
        square = (self.size, self.size)
        semantic, instances = (
            cv2.resize(mask, square, interpolation=cv2.INTER_NEAREST_EXACT) for mask in item[1:]
        )
        return dict(
            pixels=resize(item.image, self.size),
            semantic=majority(semantic, self.cells),
            instances=majority(instances, self.cells),
            semantic_mask=semantic,
            instance_mask=instances,
            fit=fit,
        )


@DATASETS.register_module()
class PhotographCells(Dataset):
    """Unlabelled images for probes that read no mask, evenly spread over a data set.

    Args:
        photographs: config of an ``ImageFolder``, or of data sets around it; its pipeline is not
            used.
        images: number of images. Defaults to 256.
        size, cells: as for :class:`ProbeCells`.

    Raises:
        SettingsError: if there are fewer images, or the sizes do not fit.
    """

    def __init__(
        self, photographs: dict, images: int = 256, size: int = 224, cells: int = 14
    ) -> None:
        check_positive_integers('PhotographCells', size=size, cells=cells)
        self.metainfo = dict(classes=())
        self.photographs = CleanPhotographs(photographs, images, size)
        self.size, self.cells = size, cells

    def __len__(self) -> int:
        return self.photographs.count

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Returns ``pixels`` (S, S, 3) uint8, or (S, S, C) float32 with declared channels."""
        return dict(pixels=self.photographs[index])
