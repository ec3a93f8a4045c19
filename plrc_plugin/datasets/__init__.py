"""Images for pre-training."""
from .collate import collate_views
from .generated_scenes import GeneratedScenes
from .image_folder import ImageFolder
from .samplers import KeyedSampler

__all__ = ['GeneratedScenes', 'ImageFolder', 'KeyedSampler', 'collate_views']
