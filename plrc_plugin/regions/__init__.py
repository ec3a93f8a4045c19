"""Where regions come from, and how regions and points are drawn."""

from plrc_plugin.regions.coco import CocoRegions
from plrc_plugin.regions.grid import GridRegions
from plrc_plugin.regions.label_files import LabelFiles
from plrc_plugin.regions.sample_points import RegionPoints, SampleRegionPoints
from plrc_plugin.regions.sampling import region_map_of_view, sample_region_points
from plrc_plugin.regions.segmenter import SegmenterRegions
from plrc_plugin.regions.source import VOID, MissingRegions

__all__ = [
    'VOID',
    'CocoRegions',
    'GridRegions',
    'LabelFiles',
    'MissingRegions',
    'RegionPoints',
    'SampleRegionPoints',
    'SegmenterRegions',
    'region_map_of_view',
    'sample_region_points',
]
