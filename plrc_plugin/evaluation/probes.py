"""Probes of frozen features, as mmengine metrics. They gather the cells of images to fit on and of
images to score on from ``plrc_plugin.ProbeCells``, and compare features with truth at the end."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.evaluator import BaseMetric
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tqdm import tqdm

from plrc_plugin.errors import SettingsError, check_positive_integers
from plrc_plugin.evaluation.affinity_quality import image_quality
from plrc_plugin.evaluation.cells import ProbeCells
from plrc_plugin.evaluation.linear_probe import class_iou, confusion_matrix, fit_linear
from plrc_plugin.models.reading import cell_features
from plrc_plugin.registry import METRICS

KNN_TEMPERATURE = 0.07  # t in the weights of votes, exp(cosine / t), as in DINO's evaluation


class Probe(BaseMetric):
    """Measures what frozen features tell about the masks of images, as an mmengine metric.

    Validation during training (:class:`~plrc_plugin.engine.probe_loop.ProbeLoop`) and
    ``tools/probe.py`` serve every probe of a config's ``val_evaluator`` alike. A subclass is
    registered in ``plrc_plugin.registry.METRICS`` and names its results by ``default_prefix``. It
    says what it keeps of an image (:meth:`keep`) and what it computes from all images
    (:meth:`compute_metrics`).

    Args:
        **kwargs: arguments of ``mmengine.evaluator.BaseMetric``.
    """

    def keep(self, features: Tensor, truth: dict):
        """Returns what is needed of one image in the end: arrays or numbers, not tensors on a
        device.

        Args:
            features: (C, g, g) float32, on the CPU.
            truth: what ``ProbeCells`` gives beside the pixels. ``semantic``, (g, g) int64, is the
                class of each cell: 0 = background, -1 = void. ``instances``, (g, g) int64, numbers
                the objects from 1: 0 = background, -1 = void. ``fit`` is True for an image to fit
                on, False for one to score on.
        """
        raise NotImplementedError

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Returns numbers by name, from what was kept of every image by all processes."""
        raise NotImplementedError

    def process(self, data_batch: dict, data_samples: Sequence[Tensor]) -> None:
        """Takes the features (C, g, g) of each image of a batch of ``ProbeCells``."""
        truths = {name: values for name, values in data_batch.items() if name != 'pixels'}
        for features, *truth in zip(data_samples, *truths.values()):
            self.results.append(self.keep(features.cpu(), dict(zip(truths, truth))))

    @property
    def num_classes(self) -> int:
        """K, the number of classes with the background."""
        return len(self.dataset_meta['classes'])


class _VectorProbe(Probe):
    """Keeps a vector and a label for each sample. Subclasses define what a sample is."""

    def samples(self, features: Tensor, semantic: Tensor):
        """Turns features (C, g, g) and labels (g, g) of one image into vectors (n, C) and labels
        (n,)."""
        raise NotImplementedError

    def keep(self, features: Tensor, truth: dict):
        """Returns vectors (n, C), labels (n,), and ``fit``."""
        vectors, labels = self.samples(features, truth['semantic'])
        return vectors.numpy(), labels.numpy(), bool(truth['fit'])

    def split(self, results: list, device: str):
        """Returns vectors and labels to fit on, and those to score on."""
        return [
            torch.from_numpy(np.concatenate([r[i] for r in results if r[2] == fit])).to(device)
            for fit in (True, False)
            for i in (0, 1)
        ]


class _SegmentationProbe(_VectorProbe):
    """Fits on ``drawn`` cells, once per seed, and scores on all."""

    def __init__(self, drawn: int, seeds: int, **kwargs) -> None:
        super().__init__(**kwargs)
        check_positive_integers(type(self).__name__, drawn=drawn, seeds=seeds)
        self.drawn, self.seeds = drawn, seeds

    def samples(self, features: Tensor, semantic: Tensor):
        labelled = semantic >= 0
        return features[:, labelled].T, semantic[labelled]

    def predict(self, features: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
        """Predicts the classes (Q,) of queries (Q, C) from features (N, C) with labels (N,)."""
        raise NotImplementedError

    def compute_metrics(self, results: list) -> dict[str, float]:
        features, labels, queries, truth = self.split(results, get_device())
        ious, accuracies = [], []
        for seed in range(self.seeds):
            drawn = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
            drawn = drawn[: self.drawn].to(labels.device)
            predicted = self.predict(features[drawn], labels[drawn], queries)
            confusion = confusion_matrix(predicted, truth, self.num_classes)
            ious.append(100 * class_iou(confusion).nanmean().item())
            accuracies.append(100 * (predicted == truth).double().mean().item())
        return dict(
            mIoU=float(np.mean(ious)),
            mIoU_spread=float(np.std(ious)),
            accuracy=float(np.mean(accuracies)),
        )


@METRICS.register_module()
class LinearSegmentationProbe(_SegmentationProbe):
    """Measures the mIoU, in percent, of a linear classifier of cells, see :func:`fit_linear`.

    Args:
        drawn: number of cells drawn from the images to fit on. Defaults to 50,000.
        seeds: number of draws; ``mIoU`` is their mean, ``mIoU_spread`` their standard deviation.
            Defaults to 1.
        **kwargs: arguments of ``mmengine.evaluator.BaseMetric``.
    """

    default_prefix = 'linear_seg'

    def __init__(self, drawn: int = 50000, seeds: int = 1, **kwargs) -> None:
        super().__init__(drawn, seeds, **kwargs)

    def predict(self, features: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
        return fit_linear(features, labels, self.num_classes)(queries).argmax(1)


@METRICS.register_module()
class KNNSegmentationProbe(_SegmentationProbe):
    """Measures the mIoU, in percent, if each cell takes the vote of its k nearest cells, by cosine.

    Args:
        k: number of nearest neighbours. Defaults to 20.
        drawn: number of cells, drawn from the images to fit on, to search. Defaults to 10,000.
        seeds: as for :class:`LinearSegmentationProbe`.
        **kwargs: of ``mmengine.evaluator.BaseMetric``.
    """

    default_prefix = 'knn_seg'

    def __init__(self, k: int = 20, drawn: int = 10000, seeds: int = 1, **kwargs) -> None:
        super().__init__(drawn, seeds, **kwargs)
        check_positive_integers('KNNSegmentationProbe', k=k)
        self.k = k

    def predict(self, features: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
        return knn_labels(queries, features, labels, self.num_classes, self.k)


@METRICS.register_module()
class ImageClassificationProbe(_VectorProbe):
    """Measures the share, in percent, of images whose main class is found from the mean of their
    features.

    The main class of an image is the one that covers most cells, apart from the background. Images
    without any class are left out. The class is found by a linear classifier, and by the vote of
    the k nearest images.

    Args:
        k: number of nearest neighbours. Defaults to 20.
        **kwargs: arguments of ``mmengine.evaluator.BaseMetric``.
    """

    default_prefix = 'classify'

    def __init__(self, k: int = 20, **kwargs) -> None:
        super().__init__(**kwargs)
        check_positive_integers('ImageClassificationProbe', k=k)
        self.k = k

    def samples(self, features: Tensor, semantic: Tensor):
        counts = torch.bincount(semantic[semantic > 0], minlength=2)
        count = int(counts.sum() > 0)
        return features.mean((1, 2))[None][:count], counts.argmax()[None][:count]

    def compute_metrics(self, results: list) -> dict[str, float]:
        features, labels, queries, truth = self.split(results, get_device())
        linear = fit_linear(features, labels, self.num_classes)
        nearest = knn_labels(queries, features, labels, self.num_classes, self.k)
        return {
            name: 100 * (predicted == truth).double().mean().item()
            for name, predicted in (('linear', linear(queries).argmax(1)), ('knn', nearest))
        }


@METRICS.register_module()
class AffinityQuality(Probe):
    """Compares the affinities inside each image to score on with its masks. The results are means
    of AUCs over images and of IoUs over objects, see
    :mod:`~plrc_plugin.evaluation.affinity_quality`.

    Args:
        distance: distance from a border, in cells, that counts as near. Defaults to 1.
        **kwargs: of ``mmengine.evaluator.BaseMetric``.
    """

    default_prefix = 'affinity'

    def __init__(self, distance: int = 1, **kwargs) -> None:
        super().__init__(**kwargs)
        check_positive_integers('AffinityQuality', distance=distance)
        self.distance = distance

    def keep(self, features: Tensor, truth: dict) -> dict:
        """Returns the measures of an image to score on."""
        if truth['fit']:
            return {}
        return image_quality(features, truth['semantic'], truth['instances'], self.distance)

    def compute_metrics(self, results: list) -> dict[str, float]:
        values: dict[str, list] = {}
        for image in results:
            for name, found in image.items():
                found = found if isinstance(found, list) else [found]
                values.setdefault(name, []).extend(v for v in found if v is not None)
        return {name: float(np.mean(found)) for name, found in values.items() if found}


def knn_labels(
    queries: Tensor, bank: Tensor, labels: Tensor, num_classes: int, k: int, chunk: int = 1024
) -> Tensor:
    """Returns, for queries (Q, C), the vote (Q,) of the k nearest vectors of a bank (N, C) with
    labels (N,).

    Neighbours are found by cosine, and their votes are weighted by exp(cosine / 0.07), by lightly's
    ``knn_predict``.
    """
    # lightly.utils imports pytorch_lightning, which would add two seconds to every start.
    from lightly.utils.benchmarking import knn_predict

    bank = F.normalize(bank, dim=1).T.contiguous()
    return torch.cat(
        [
            knn_predict(
                F.normalize(part, dim=1),
                bank,
                labels,
                num_classes,
                min(k, len(labels)),
                KNN_TEMPERATURE,
            )[:, 0]
            for part in queries.split(chunk)
        ]
    )


def evaluate_encoder(
    model: nn.Module,
    data: ProbeCells,
    probes: Sequence[dict],
    projected: bool = False,
    batch_size: int = 32,
    progress: bool = False,
) -> dict[str, float]:
    """Measures probes on a model with ``backbone``, ``projector`` and ``data_preprocessor``.

    Args:
        model: the model. It is moved to the GPU if there is one.
        data: the images to fit on and those to score on.
        probes: configs of probes, as in a ``val_evaluator``.
        projected: whether to take features after the projector. Defaults to False, for the trunk's.
        batch_size: number of images in a batch.
        progress: whether to show bars on stderr if the work takes longer than three seconds.

    Returns:
        Every number, by 'probe/name'.

    Raises:
        SettingsError: if two probes give numbers of the same name.
    """
    bar = partial(tqdm, delay=3, mininterval=1, leave=False, disable=not progress)
    device = get_device()
    model = model.to(device).eval()
    metrics = [METRICS.build(probe) for probe in probes]
    for metric in metrics:
        metric.dataset_meta = data.metainfo
    for batch in bar(DataLoader(data, batch_size), desc='features', unit='batch'):
        pixels = batch['pixels'].to(device)
        features = cell_features(model, pixels, data.cells, projected)
        for metric in metrics:
            metric.process(data_batch=batch, data_samples=features)
    numbers: dict[str, float] = {}
    for metric in bar(metrics, desc='probes', unit='probe'):
        found = metric.evaluate(len(data))
        if twice := numbers.keys() & found.keys():
            raise SettingsError(
                f'two probes give {min(twice)}: give one of them, {type(metric).__name__}, a '
                'prefix of its own (prefix=...)'
            )
        numbers.update(found)
    return numbers
