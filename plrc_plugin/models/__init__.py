"""Encoders and the models that compose them with the losses."""

from plrc_plugin.models.backbones import ResNet, TorchvisionTrunk
from plrc_plugin.models.dense_cl import DenseCL
from plrc_plugin.models.distillation import STRATEGIES
from plrc_plugin.models.embedding import embed_points, embed_regions
from plrc_plugin.models.encoder_pair import MomentumEncoders
from plrc_plugin.models.key_queue import KeyQueue
from plrc_plugin.models.moco import MomentumContrast
from plrc_plugin.models.pix_pro import PixPro
from plrc_plugin.models.plrc import PLRC
from plrc_plugin.models.pooled_regions import RegionContrast
from plrc_plugin.models.projector import conv_projector
from plrc_plugin.models.timm_trunk import TimmTrunk
from plrc_plugin.models.views_preprocessor import ViewsPreprocessor

__all__ = [
    'PLRC',
    'STRATEGIES',
    'DenseCL',
    'KeyQueue',
    'MomentumContrast',
    'MomentumEncoders',
    'PixPro',
    'RegionContrast',
    'ResNet',
    'TimmTrunk',
    'TorchvisionTrunk',
    'ViewsPreprocessor',
    'conv_projector',
    'embed_points',
    'embed_regions',
]
