"""Encoders and the models that compose them with the losses."""
from .backbones import ResNet, TorchvisionTrunk
from .dense_cl import DenseCL
from .embedding import embed_points, embed_regions
from .key_queue import KeyQueue
from .momentum_contrast import MomentumContrast
from .momentum_encoders import MomentumEncoders
from .pix_pro import PixPro
from .plrc import PLRC
from .projector import conv_projector
from .region_contrast import RegionContrast
from .strategies import STRATEGIES
from .views_preprocessor import ViewsPreprocessor

__all__ = [
    'DenseCL', 'KeyQueue', 'MomentumContrast', 'MomentumEncoders', 'PLRC', 'PixPro',
    'RegionContrast', 'ResNet', 'STRATEGIES', 'TorchvisionTrunk', 'ViewsPreprocessor',
    'conv_projector', 'embed_points', 'embed_regions'
]
