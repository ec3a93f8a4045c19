"""Forms more clusters than classes, and measures whether the cells of a cluster belong to one
class."""

import numpy as np
import torch
from mmengine.device import get_device
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from plrc_plugin.errors import check_positive_integers
from plrc_plugin.evaluation.linear_probe import class_iou, confusion_matrix
from plrc_plugin.evaluation.probes import Probe
from plrc_plugin.registry import METRICS


@METRICS.register_module()
class OverClustering(Probe):
    """mIoU in percent of k-means clusters of the cells to score on, matched to classes.

    Clusters are joined if most of their cells have the same class. The joined clusters are matched
    to the classes one to one, so that the sum of IoUs is highest (Hungarian matching), as in
    "Self-Supervised Learning of Object Parts for Semantic Segmentation" (Leopart, CVPR 2022).
    Nothing is fitted on other images.

    Args:
        clusters (int): number of clusters. Defaults to 500.
        iterations (int): most iterations of k-means. Defaults to 30.
        seeds (int): number of starts; ``mIoU`` is their mean, ``mIoU_spread`` their standard
            deviation. Defaults to 1.
        **kwargs: arguments of ``mmengine.evaluator.BaseMetric``.
    """

    default_prefix = 'clusters'

    def __init__(self, clusters: int = 500, iterations: int = 30, seeds: int = 1, **kwargs) -> None:
        super().__init__(**kwargs)
        check_positive_integers(
            'OverClustering', clusters=clusters, iterations=iterations, seeds=seeds
        )
        self.clusters, self.iterations, self.seeds = clusters, iterations, seeds

    def keep(self, features: Tensor, truth: dict):
        """Returns vectors (n, C) and labels (n,) of the cells that are not void; None for images to
        fit on."""
        if truth['fit']:
            return None
        labelled = truth['semantic'] >= 0
        return features[:, labelled].T.numpy(), truth['semantic'][labelled].numpy()

    def compute_metrics(self, results: list) -> dict[str, float]:
        kept = [found for found in results if found is not None]
        vectors, labels = (torch.cat([torch.from_numpy(a) for a in part]) for part in zip(*kept))
        vectors, ious = F.normalize(vectors, dim=1).to(get_device()), []
        for seed in range(self.seeds):
            found = kmeans(vectors, self.clusters, self.iterations, seed).cpu()
            ious.append(100 * matched_miou(found, labels, self.num_classes))
        return dict(mIoU=float(np.mean(ious)), mIoU_spread=float(np.std(ious)))


def kmeans(vectors: Tensor, clusters: int, iterations: int = 30, seed: int = 0) -> Tensor:
    """Returns the clusters (N,) of unit vectors (N, C) by cosine. The first centres are drawn among
    the vectors.

    A cluster that loses all its vectors keeps its centre.
    """
    generator = torch.Generator().manual_seed(seed)
    first = torch.randperm(len(vectors), generator=generator)[:clusters].to(vectors.device)
    centres = vectors[first]
    found = torch.full((len(vectors),), -1, device=vectors.device)
    for _ in range(iterations):
        nearest = torch.cat([(part @ centres.T).argmax(1) for part in vectors.split(8192)])
        if torch.equal(nearest, found):
            break
        found = nearest
        sums = torch.zeros_like(centres).index_add_(0, found, vectors)
        full = torch.bincount(found, minlength=len(centres)) > 0
        centres = torch.where(full[:, None], F.normalize(sums, dim=1), centres)
    return found


def matched_miou(clusters: Tensor, labels: Tensor, num_classes: int) -> float:
    """Returns the mean IoU of classes with the clusters that are matched to them, in [0, 1].

    Args:
        clusters: (N,), 0 or more.
        labels: (N,) in 0..num_classes - 1. Classes that do not occur do not count.
    """
    counts = torch.zeros(int(clusters.max()) + 1, num_classes)
    counts.index_put_((clusters, labels), torch.ones(len(labels)), accumulate=True)
    joined = counts.argmax(1)[clusters]
    confusion = confusion_matrix(joined, labels, num_classes)
    hits = confusion.double()
    ious = hits / (hits.sum(0, keepdim=True) + hits.sum(1, keepdim=True) - hits).clamp(min=1)
    classes, sets = linear_sum_assignment(-ious)
    matched = torch.empty(num_classes, dtype=torch.long)
    matched[torch.from_numpy(sets)] = torch.from_numpy(classes)
    confusion = confusion_matrix(matched[joined], labels, num_classes)
    return class_iou(confusion)[confusion.sum(1) > 0].mean().item()
