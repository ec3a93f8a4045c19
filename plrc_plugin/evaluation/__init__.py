"""Metrics and probes."""

from plrc_plugin.evaluation.affinity_quality import affinity_auc, centre_ious, image_quality
from plrc_plugin.evaluation.cells import ProbeCells
from plrc_plugin.evaluation.linear_probe import class_iou, confusion_matrix, fit_linear
from plrc_plugin.evaluation.probes import (
    AffinityQuality,
    ImageClassificationProbe,
    KNNSegmentationProbe,
    LinearSegmentationProbe,
    Probe,
    evaluate_encoder,
    knn_labels,
)
from plrc_plugin.models.reading import cell_features

__all__ = [
    'AffinityQuality',
    'ImageClassificationProbe',
    'KNNSegmentationProbe',
    'LinearSegmentationProbe',
    'Probe',
    'ProbeCells',
    'affinity_auc',
    'cell_features',
    'centre_ious',
    'class_iou',
    'confusion_matrix',
    'evaluate_encoder',
    'fit_linear',
    'image_quality',
    'knn_labels',
]
