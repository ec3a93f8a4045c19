"""Reads images of any depth and number of channels, as a whole or in parts."""

from plrc_plugin.images.rasters.opening import open_raster
from plrc_plugin.images.rasters.raster import MAX_PIXELS, Raster
from plrc_plugin.images.rasters.raster_file import RasterFile
from plrc_plugin.images.rasters.scaling import Reading, read_raster, visible

__all__ = [
    'MAX_PIXELS',
    'Raster',
    'RasterFile',
    'Reading',
    'open_raster',
    'read_raster',
    'visible',
]
