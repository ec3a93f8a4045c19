"""DSE measures how well dense features are structured, without any label."""

import torch
from torch import Tensor
from torch.nn import functional as F

from plrc_plugin.errors import check_positive_integers
from plrc_plugin.evaluation.probes import Probe
from plrc_plugin.registry import METRICS


@METRICS.register_module()
class DenseStructure(Probe):
    """The Dense representation Structure Estimator of "Exploring Structural Degradation in Dense
    Representations" (NeurIPS 2025, arXiv 2510.17299), as lightly's ``DSERegularizer`` has it.

    Higher is better: clusters of cells lie apart, each cluster is compact, and the features fill
    many dimensions. It takes the images to score on and reads no mask, so that these may be
    unlabelled (:class:`~plrc_plugin.evaluation.cells.PhotographCells`).

    Args:
        images (int): number of first images that are taken, at most. Defaults to 256.
        local_clusters, global_clusters (int): clusters of k-means within an image, and over a group
            of images. They default to 3 and 24, as in the paper.
        **kwargs: arguments of ``mmengine.evaluator.BaseMetric``.
    """

    default_prefix = 'dse'

    def __init__(
        self, images: int = 256, local_clusters: int = 3, global_clusters: int = 24, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        check_positive_integers(
            'DenseStructure',
            images=images,
            local_clusters=local_clusters,
            global_clusters=global_clusters,
        )
        self.images = images
        self.clusters = dict(local_clusters=local_clusters, global_clusters=global_clusters)

    def keep(self, features: Tensor, truth: dict):
        """Returns vectors (g * g, C); None for images to fit on."""
        return None if truth.get('fit', False) else features.flatten(1).T.numpy()

    def compute_metrics(self, results: list) -> dict[str, float]:
        kept = [torch.from_numpy(vectors) for vectors in results if vectors is not None]
        return dict(score=dense_structure(torch.stack(kept[: self.images]), **self.clusters))


def dense_structure(features: Tensor, local_clusters: int = 3, global_clusters: int = 24) -> float:
    """Computes DSE of features (B, N, C) of B images with N cells each. The draws of k-means are a
    function of the features alone, and the global generators do not change."""
    # lightly.utils imports pytorch_lightning, which would add two seconds to every start.
    from lightly.loss.regularizer.dse import DSERegularizer

    estimator = DSERegularizer(local_clusters=local_clusters, global_clusters=global_clusters)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return -estimator(F.normalize(features.float(), dim=2)).item()
