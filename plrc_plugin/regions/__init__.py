"""Where regions come from, and how regions and points are drawn."""
from .coco import CocoRegions
from .grid import GridRegions
from .label_files import LabelFiles
from .labels import MissingRegions
from .points_of_views import RegionPoints, SampleRegionPoints
from .sampling import VOID, region_map_of_view, sample_region_points
from .segmenter import SegmenterRegions

__all__ = [
    'VOID', 'CocoRegions', 'GridRegions', 'LabelFiles', 'MissingRegions', 'RegionPoints',
    'SampleRegionPoints', 'SegmenterRegions', 'region_map_of_view', 'sample_region_points'
]
