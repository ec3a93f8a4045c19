"""Encoders and the models that compose them with the losses."""
from .backbones import ResNet
from .key_queue import KeyQueue
from .momentum_contrast import MomentumContrast
from .momentum_encoders import MomentumEncoders
from .plrc import PLRC
from .projector import conv_projector
from .views_preprocessor import ViewsPreprocessor

__all__ = [
    'KeyQueue', 'MomentumContrast', 'MomentumEncoders', 'PLRC', 'ResNet', 'ViewsPreprocessor',
    'conv_projector'
]
