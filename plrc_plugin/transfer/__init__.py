"""Fine-tuning of detectors and segmenters that start from a pre-trained trunk.

Nothing here imports mmcv, mmdet or mmseg before a config asks for a part that needs them.
"""

from plrc_plugin.checkpoints import (
    TARGETS,
    export_trunk,
    load_encoder,
    load_tensors,
    load_trunk,
    read_trunk,
)
from plrc_plugin.transfer.c4_head import Res5ExtraNorm
from plrc_plugin.transfer.hooks import EvaluateFinished, LoadTrunk, PreciseBN
from plrc_plugin.transfer.keep_statistics import KeepTrunkStatistics
from plrc_plugin.transfer.load_raster import LoadRaster
from plrc_plugin.transfer.sync_bn import SyncBN
from plrc_plugin.transfer.voc_difficult import TrainOnDifficult
from plrc_plugin.transfer.voc_metric import VOCAPMetric

__all__ = [
    'TARGETS',
    'EvaluateFinished',
    'KeepTrunkStatistics',
    'LoadRaster',
    'LoadTrunk',
    'PreciseBN',
    'Res5ExtraNorm',
    'SyncBN',
    'TrainOnDifficult',
    'VOCAPMetric',
    'export_trunk',
    'load_encoder',
    'load_tensors',
    'load_trunk',
    'read_trunk',
]
