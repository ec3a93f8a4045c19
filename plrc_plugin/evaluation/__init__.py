"""Metrics and probes."""
from .affinity_quality import affinity_auc, centre_ious, image_quality
from .cells import ProbeCells, cell_features
from .linear_probe import class_iou, confusion_matrix, fit_linear
from .probes import (AffinityQuality, ImageClassificationProbe, KNNSegmentationProbe,
                     LinearSegmentationProbe, evaluate_encoder, knn_labels)
from .voc_metric import VOCAPMetric

__all__ = [
    'AffinityQuality', 'ImageClassificationProbe', 'KNNSegmentationProbe',
    'LinearSegmentationProbe', 'ProbeCells', 'VOCAPMetric', 'affinity_auc', 'cell_features',
    'centre_ious', 'class_iou', 'confusion_matrix', 'evaluate_encoder', 'fit_linear',
    'image_quality', 'knn_labels'
]
