"""Images for pre-training."""
from .collate import collate_views
from .image_folder import ImageFolder
from .samplers import KeyedSampler

__all__ = ['ImageFolder', 'KeyedSampler', 'collate_views']
