"""Views of an image: their augmentation and their geometry."""

from plrc_plugin.images import DecodingError, ImageFile, read_image
from plrc_plugin.randomness import SampleKey, stream
from plrc_plugin.views.device_augmentation import DeviceAugmentation, augment, stack
from plrc_plugin.views.geometry import (
    crop_affine,
    image_to_view,
    inside,
    view_to_image,
    view_to_view,
)
from plrc_plugin.views.levels import GaussianNoise, LevelJitter
from plrc_plugin.views.stored_values import StoredValues
from plrc_plugin.views.two_views import TwoViews, View
from plrc_plugin.views.whole_image import WholeImage

__all__ = [
    'DecodingError',
    'DeviceAugmentation',
    'GaussianNoise',
    'ImageFile',
    'LevelJitter',
    'SampleKey',
    'StoredValues',
    'TwoViews',
    'View',
    'WholeImage',
    'augment',
    'crop_affine',
    'image_to_view',
    'inside',
    'read_image',
    'stack',
    'stream',
    'view_to_image',
    'view_to_view',
]
