"""Pixels and files: finds images, decodes them, and makes masks of annotations."""

from plrc_plugin.images.decoding import EXTENSIONS, DecodingError, ImageFile, open_image, read_image
from plrc_plugin.images.file_index import image_index

__all__ = ['EXTENSIONS', 'DecodingError', 'ImageFile', 'image_index', 'open_image', 'read_image']
