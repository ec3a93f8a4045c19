"""Encoders and the models that compose them with the losses."""

from plrc_plugin.models.backbones import ResNet, TorchvisionTrunk
from plrc_plugin.models.dense_cl import DenseCL
from plrc_plugin.models.distillation import Affinities
from plrc_plugin.models.embedding import embed_points, embed_regions
from plrc_plugin.models.encoder_pair import EncoderPair
from plrc_plugin.models.key_queue import KeyQueue
from plrc_plugin.models.moco import MomentumContrast
from plrc_plugin.models.pix_pro import PixPro
from plrc_plugin.models.plrc import PLRC
from plrc_plugin.models.pooled_regions import RegionContrast
from plrc_plugin.models.projector import conv_projector
from plrc_plugin.models.reading import cell_features, last_map, read_points
from plrc_plugin.models.region_contrast import RegionContrastBase
from plrc_plugin.models.timm_trunk import TimmTrunk
from plrc_plugin.models.view_batch import EncodedView, ViewBatch
from plrc_plugin.models.views_preprocessor import ViewsPreprocessor
from plrc_plugin.registry import STRATEGIES

__all__ = [
    'PLRC',
    'STRATEGIES',
    'Affinities',
    'DenseCL',
    'EncodedView',
    'EncoderPair',
    'KeyQueue',
    'MomentumContrast',
    'PixPro',
    'RegionContrast',
    'RegionContrastBase',
    'ResNet',
    'TimmTrunk',
    'TorchvisionTrunk',
    'ViewBatch',
    'ViewsPreprocessor',
    'cell_features',
    'conv_projector',
    'embed_points',
    'embed_regions',
    'last_map',
    'read_points',
]
