"""Metrics and probes."""

from plrc_plugin.evaluation.affinity_quality import affinity_auc, centre_ious, image_quality
from plrc_plugin.evaluation.cells import PhotographCells, ProbeCells
from plrc_plugin.evaluation.dense_structure import DenseStructure, dense_structure
from plrc_plugin.evaluation.in_context import InContextSegmentation
from plrc_plugin.evaluation.linear_probe import class_iou, confusion_matrix, fit_linear
from plrc_plugin.evaluation.object_discovery import ObjectDiscovery
from plrc_plugin.evaluation.over_clustering import OverClustering
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
    'DenseStructure',
    'ImageClassificationProbe',
    'InContextSegmentation',
    'KNNSegmentationProbe',
    'LinearSegmentationProbe',
    'ObjectDiscovery',
    'OverClustering',
    'PhotographCells',
    'Probe',
    'ProbeCells',
    'affinity_auc',
    'cell_features',
    'centre_ious',
    'class_iou',
    'confusion_matrix',
    'dense_structure',
    'evaluate_encoder',
    'fit_linear',
    'image_quality',
    'knn_labels',
]
