"""What happens around the training loop."""

from .affinity import AffinityHook
from .check_settings import CheckSettingsHook
from .collapse import CollapseHook
from .missing_regions import MissingRegionsHook
from .schedule import ScheduleHook
from .skipped_images import SkippedImagesHook
from .trunk_options import TrunkOptionsHook

__all__ = [
    'AffinityHook',
    'CheckSettingsHook',
    'CollapseHook',
    'MissingRegionsHook',
    'ScheduleHook',
    'SkippedImagesHook',
    'TrunkOptionsHook',
]
