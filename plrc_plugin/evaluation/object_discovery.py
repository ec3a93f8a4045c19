"""LOST finds one object of an image by the affinities of its features alone."""

import cv2
import numpy as np
from torch import Tensor

from plrc_plugin.errors import check_positive_integers
from plrc_plugin.evaluation.probes import Probe
from plrc_plugin.registry import METRICS


@METRICS.register_module()
class ObjectDiscovery(Probe):
    """CorLoc in percent of LOST (Simeoni et al., BMVC 2021): the share of images to score on whose
    one found box overlaps the box of some object by an IoU of one half or more.

    The boxes of objects are those of their masks at the size of the network's input. Resizing
    images to squares does not change IoUs. The published numbers have 600 to 1,000 cells an image;
    ``--size 448 --cells 28`` comes near that.

    Args:
        patches (int): LOST's k: number of cells of low degree to which the seed may grow. Defaults
            to 100.
        **kwargs: arguments of ``mmengine.evaluator.BaseMetric``.
    """

    default_prefix = 'discovery'

    def __init__(self, patches: int = 100, **kwargs) -> None:
        super().__init__(**kwargs)
        check_positive_integers('ObjectDiscovery', patches=patches)
        self.patches = patches

    def keep(self, features: Tensor, truth: dict):
        """Returns whether the box was right; None for images to fit on, and for images without an
        object."""
        boxes = mask_boxes(truth['instance_mask'].numpy())
        if truth['fit'] or not len(boxes):
            return None
        scale = truth['instance_mask'].shape[0] / features.shape[1]
        return max(box_iou(scale * found_box(features, self.patches), box) for box in boxes) >= 0.5

    def compute_metrics(self, results: list) -> dict[str, float]:
        found = [right for right in results if right is not None]
        return dict(corloc=100 * float(np.mean(found))) if found else {}


def found_box(features: Tensor, patches: int = 100) -> np.ndarray:
    """Returns the box (left, top, right, bottom), in cells, of the object that LOST finds.

    The mean over all numbers of the features is subtracted, as LOST does for convolutional
    networks, whose features are not negative. The degree of a cell is the number of cells with
    which it is positively correlated, and the seed is the cell of lowest degree. Those of the
    ``patches`` cells of lowest degree that agree with the seed vote for all cells. The box is that
    of the connected cells around the seed with a positive sum of votes.

    Args:
        features: (C, g, g).
        patches: number of cells of low degree that may vote.
    """
    size = features.shape[1]
    vectors = (features - features.mean()).flatten(1)
    products = vectors.T @ vectors
    degrees = (products > 0).sum(1) - (products.diagonal() > 0).long()
    order = degrees.argsort(stable=True)
    seed, low = order[0], order[:patches]
    voters = low[products[seed, low] > 0]
    votes = products[voters].sum(0).view(size, size) > 0
    _, parts = cv2.connectedComponents(votes.numpy().astype(np.uint8), connectivity=4)
    part = parts.reshape(-1)[seed]
    if part == 0:  # the other voters outvote the seed, which then stands alone
        parts = np.zeros_like(parts)
        parts.reshape(-1)[seed] = part = 1
    rows, columns = np.where(parts == part)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)


def mask_boxes(instances: np.ndarray) -> list[np.ndarray]:
    """Returns the boxes (left, top, right, bottom), in pixels, of the objects 1, 2, ... of a mask
    (S, S)."""
    boxes = []
    for label in np.unique(instances[instances > 0]):
        rows, columns = np.where(instances == label)
        boxes.append(np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]))
    return boxes


def box_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the IoU of two boxes (left, top, right, bottom)."""
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if width <= 0 or height <= 0:
        return 0.0
    overlap = width * height
    return float(overlap / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - overlap))
