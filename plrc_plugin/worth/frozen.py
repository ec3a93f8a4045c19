"""Measures a frozen trunk with 1, 10 and 100% of the labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.device import get_device
from torch import nn
from torch.utils.data import DataLoader

from plrc_plugin.checkpoints.encoder import load_encoder
from plrc_plugin.evaluation.cells import ProbeCells
from plrc_plugin.evaluation.probes import AffinityQuality, KNNSegmentationProbe
from plrc_plugin.evaluation.probes import LinearSegmentationProbe as LinearProbe
from plrc_plugin.models.reading import cell_features
from plrc_plugin.worth.labels import BOXES

# The names of the table, and of the first what is compared.
LINEAR, KNN, AUC = 'linear mIoU', 'k-NN mIoU', 'affinity AUC'
BATCH = 32


class Frozen(NamedTuple):
    """Numbers by percentage of the labels, and the number of images that were used."""

    numbers: dict[str, dict[str, float]]
    images: int


def probe_cells(kind: str, labels: Path, classes: Sequence[str]) -> ProbeCells:
    """Returns all labelled images, to fit on and to score on, as cells."""
    if kind == BOXES:
        parts = [
            dict(type='plrc_plugin.COCOMasks', annotations=str(labels / f'{part}.json'), images='')
            for part in ('train_100', 'test')
        ]
    else:
        parts = [
            dict(
                type='plrc_plugin.VOCMasks',
                data_root=str(labels),
                split=part,
                classes=('background', *classes),
            )
            for part in ('train_100', 'test')
        ]
    return ProbeCells(*parts)


def encoder(backbone: dict, checkpoint: str) -> nn.Module:
    """Returns a trunk with the weights of a checkpoint, or with 'random' ones."""
    model = dict(
        type='plrc_plugin.MomentumContrast', backbone=backbone, queue_size=16, momentum=0.99
    )
    return load_encoder(Config(dict(model=model)), checkpoint)


def frozen_quality(
    model: nn.Module, cells: ProbeCells, parts: Mapping[float, Sequence[int]]
) -> Frozen:
    """Measures the probes of a frozen trunk.

    Args:
        model: what :func:`encoder` returned.
        cells: what :func:`probe_cells` returned.
        parts: for each percentage, the indices of its images among the images to fit on.
    """
    device = get_device()
    model = model.to(device).eval()
    linear, nearest, affinity = LinearProbe(), KNNSegmentationProbe(), AffinityQuality()
    for probe in (linear, nearest, affinity):
        probe.dataset_meta = cells.metainfo
    kept: list[Any] = []
    pairs: list[dict] = []
    for batch in DataLoader(cells, BATCH):
        features = cell_features(model, batch['pixels'].to(device), cells.cells).cpu()
        truths = {name: values for name, values in batch.items() if name != 'pixels'}
        for each, *truth in zip(features, *truths.values()):
            of_image = dict(zip(truths, truth))
            kept.append(linear.keep(each, of_image))
            pairs.append(affinity.keep(each, of_image))
    to_fit = len(cells.parts[0])
    score = kept[to_fit:]
    auc = affinity.compute_metrics(pairs).get('auc')
    numbers = {}
    for percent, places in parts.items():
        results = [*(kept[i] for i in places), *score]
        numbers[f'{percent:g}'] = {
            LINEAR: linear.compute_metrics(results)['mIoU'],
            KNN: nearest.compute_metrics(results)['mIoU'],
            **({AUC: auc} if auc is not None else {}),
        }
    return Frozen(numbers, len(kept))
