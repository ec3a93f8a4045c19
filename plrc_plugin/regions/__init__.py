"""Where regions come from, and how regions and points are drawn."""
from .grid import GridRegions
from .points_of_views import RegionPoints, SampleRegionPoints
from .sampling import VOID, region_map_of_view, sample_region_points

__all__ = [
    'VOID', 'GridRegions', 'RegionPoints', 'SampleRegionPoints', 'region_map_of_view',
    'sample_region_points'
]
