"""Images for pre-training, and images with masks for probes."""
from .collate import collate_views
from .generated_scenes import GeneratedScenes
from .image_folder import ImageFolder
from .masked_images import COCOMasks, MaskedImage, VOCMasks, masked_images
from .samplers import KeyedSampler

__all__ = [
    'COCOMasks', 'GeneratedScenes', 'ImageFolder', 'KeyedSampler', 'MaskedImage', 'VOCMasks',
    'collate_views', 'masked_images'
]
