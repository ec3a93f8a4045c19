"""From a pre-trained trunk to detection and segmentation: reading, exporting, loading.

Nothing here imports mmcv, mmdet or mmseg before a config asks for a part that needs them.
"""
from .c4_head import Res5ExtraNorm
from .checkpoint import load_tensors, read_trunk
from .encoder import load_encoder
from .export import TARGETS, export_trunk
from .hooks import EvaluateFinished, LoadTrunk, PreciseBN, load_trunk
from .sync_bn import SyncBN
from .voc_difficult import TrainOnDifficult

__all__ = [
    'EvaluateFinished', 'LoadTrunk', 'PreciseBN', 'Res5ExtraNorm', 'SyncBN', 'TARGETS',
    'TrainOnDifficult', 'export_trunk', 'load_encoder', 'load_tensors', 'load_trunk', 'read_trunk'
]
