"""All hooks of pre-training."""

from plrc_plugin.engine.hooks.affinity import AffinityHook
from plrc_plugin.engine.hooks.check_settings import CheckSettingsHook
from plrc_plugin.engine.hooks.checkpoint import AtomicCheckpointHook
from plrc_plugin.engine.hooks.collapse import CollapseHook
from plrc_plugin.engine.hooks.log_means import LogMeansHook
from plrc_plugin.engine.hooks.missing_regions import MissingRegionsHook
from plrc_plugin.engine.hooks.schedule import ScheduleHook
from plrc_plugin.engine.hooks.skipped_images import SkippedImagesHook
from plrc_plugin.engine.hooks.trunk_options import TrunkOptionsHook

__all__ = [
    'AffinityHook',
    'AtomicCheckpointHook',
    'CheckSettingsHook',
    'CollapseHook',
    'LogMeansHook',
    'MissingRegionsHook',
    'ScheduleHook',
    'SkippedImagesHook',
    'TrunkOptionsHook',
]
