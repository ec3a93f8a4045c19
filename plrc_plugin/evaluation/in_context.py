"""In-context segmentation: cells take the labels of their nearest cells in a memory."""

from collections.abc import Iterator

import numpy as np
import torch
from mmengine.device import get_device
from torch import Tensor
from torch.nn import functional as F

from plrc_plugin.errors import check_positive, check_positive_integers
from plrc_plugin.evaluation.linear_probe import class_iou, confusion_matrix
from plrc_plugin.evaluation.probes import Probe
from plrc_plugin.registry import METRICS


@METRICS.register_module()
class InContextSegmentation(Probe):
    """mIoU in percent, over pixels, of Hummingbird's retrieval ("Towards In-Context Scene
    Understanding", NeurIPS 2023), as its open evaluation defines it.

    The memory holds cells of the images to fit on, each with the shares of the classes among its
    pixels; void counts as background there. It takes the same number of cells from each image,
    preferably those whose classes fill few cells of the image. A cell to score gets the labels of
    its k nearest cells, weighted by the softmax of cosine / temperature. These labels are enlarged
    bilinearly, and the highest one is the class of a pixel. Published numbers have inputs of about
    512 pixels and memories of 10 million cells. With fewer cells, compare only numbers that were
    measured in the same way.

    Args:
        k (int): number of nearest cells. Defaults to 30.
        memory (int): most cells in the memory. Defaults to 100,000.
        temperature (float): temperature of the softmax. Defaults to 0.02.
        **kwargs: arguments of ``mmengine.evaluator.BaseMetric``.
    """

    default_prefix = 'in_context'

    def __init__(
        self, k: int = 30, memory: int = 100_000, temperature: float = 0.02, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        check_positive_integers('InContextSegmentation', k=k, memory=memory)
        check_positive('InContextSegmentation', temperature=temperature)
        self.k, self.memory, self.temperature = k, memory, temperature

    def keep(self, features: Tensor, truth: dict) -> tuple[np.ndarray, np.ndarray, bool]:
        """Returns vectors (g * g, C), the mask (S, S), and ``fit``."""
        mask = truth['semantic_mask'].numpy()
        return features.flatten(1).T.numpy(), mask, bool(truth['fit'])

    def compute_metrics(self, results: list) -> dict[str, float]:
        device = get_device()
        bank, labels = (part.to(device) for part in self._memory(results))
        confusion = torch.zeros(self.num_classes, self.num_classes, dtype=torch.long)
        for vectors, mask, fit in results:
            if fit:
                continue
            queries = torch.from_numpy(vectors).to(device)
            predicted = retrieved_labels(queries, bank, labels, self.k, self.temperature)
            maps = predicted.T.unflatten(1, (int(len(vectors) ** 0.5), -1))[None]
            maps = F.interpolate(maps, mask.shape, mode='bilinear', align_corners=False)
            truth = torch.from_numpy(mask).long()
            seen = truth >= 0
            confusion += confusion_matrix(
                maps[0].argmax(0).cpu()[seen], truth[seen], self.num_classes
            )
        return dict(mIoU=100 * class_iou(confusion).nanmean().item())

    def _memory(self, results: list) -> tuple[Tensor, Tensor]:
        """Returns unit vectors (N, C) and soft labels (N, K)."""
        images = [(vectors, mask) for vectors, mask, fit in results if fit]
        generator = torch.Generator().manual_seed(0)
        share = max(1, self.memory // len(images))
        bank, labels = [], []
        for vectors, mask in images:
            cells = int(len(vectors) ** 0.5)
            soft = class_shares(torch.from_numpy(mask), cells, self.num_classes)
            taken = rare_cells(soft, share, generator)
            bank.append(F.normalize(torch.from_numpy(vectors[taken.numpy()]), dim=1))
            labels.append(soft[taken])
        return torch.cat(bank)[: self.memory], torch.cat(labels)[: self.memory]


def class_shares(mask: Tensor, cells: int, num_classes: int) -> Tensor:
    """Returns the shares (g * g, K) of the classes among the pixels of each cell.

    Args:
        mask: (S, S) integers; -1 is void and counts as background, 0.
        cells: g, which divides S.
        num_classes: K.
    """
    one_hot = F.one_hot(mask.long().clamp(min=0), num_classes).float()
    side = len(mask) // cells
    return one_hot.view(cells, side, cells, side, -1).mean((1, 3)).flatten(0, 1)


def rare_cells(shares: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Returns the indices (n,) of ``count`` cells of an image, or of all if there are fewer.

    The score of a cell is the number of cells in which each of its classes occurs, summed over its
    classes, times a uniform draw. The cells with the lowest scores are taken.
    """
    present = (shares > 0).float()
    scores = present @ present.sum(0)
    scores = scores * torch.rand(len(scores), generator=generator)
    return scores.topk(min(count, len(scores)), largest=False).indices


def retrieved_labels(
    queries: Tensor, bank: Tensor, labels: Tensor, k: int, temperature: float, chunk: int = 1024
) -> Tensor:
    """Returns soft labels (Q, K) of queries (Q, C) from unit vectors (N, C) with soft labels (N,
    K)."""

    def parts() -> Iterator[Tensor]:
        for part in F.normalize(queries, dim=1).split(chunk):
            cosines, nearest = (part @ bank.T).topk(min(k, len(bank)))
            weights = (cosines / temperature).softmax(1)
            yield torch.einsum('qn,qnk->qk', weights, labels[nearest])

    return torch.cat(list(parts()))
