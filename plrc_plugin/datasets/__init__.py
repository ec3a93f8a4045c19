"""Images for pre-training, and images with masks for probes."""

from plrc_plugin.datasets.collate import collate_views
from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.datasets.image_windows import ImageWindows
from plrc_plugin.datasets.images_of import ImagesOf
from plrc_plugin.datasets.keys import KeyedDataset
from plrc_plugin.datasets.masked_images import COCOMasks, MaskedImage, VOCMasks, masked_images
from plrc_plugin.datasets.samplers import (
    KeyedBatches,
    KeyedIndices,
    KeyedInfiniteSampler,
    KeyedSampler,
)
from plrc_plugin.datasets.scenes import GeneratedScenes
from plrc_plugin.datasets.weighted import WeightedConcatDataset

__all__ = [
    'COCOMasks',
    'GeneratedScenes',
    'ImageFolder',
    'ImageWindows',
    'ImagesOf',
    'KeyedBatches',
    'KeyedDataset',
    'KeyedIndices',
    'KeyedInfiniteSampler',
    'KeyedSampler',
    'MaskedImage',
    'VOCMasks',
    'WeightedConcatDataset',
    'collate_views',
    'masked_images',
]
