"""Views of an image: augmentation, geometry, and reading features at points."""
from .decoding import DecodingError, ImageFile, read_image
from .device_augmentation import DeviceAugmentation, augment
from .geometry import crop_affine, image_to_view, inside, view_to_image, view_to_view
from .randomness import SampleKey, stream
from .reading import read_points
from .two_views import TwoViews, View

__all__ = [
    'DecodingError', 'DeviceAugmentation', 'ImageFile', 'SampleKey', 'TwoViews', 'View', 'augment',
    'crop_affine', 'image_to_view', 'inside', 'read_image', 'read_points', 'stream',
    'view_to_image', 'view_to_view'
]
