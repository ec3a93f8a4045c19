"""The objectives: pure functions over embeddings, and the thin modules that configs name."""

from plrc_plugin.losses.dense_contrast import dense_contrast, match_positions
from plrc_plugin.losses.image_contrast import image_contrast
from plrc_plugin.losses.pixel_consistency import PixelConsistency, near_pairs, pixel_consistency
from plrc_plugin.losses.point_affinity_distillation import (
    PointAffinityDistillation,
    point_affinity,
    point_affinity_distillation,
)
from plrc_plugin.losses.point_region_contrast import (
    PointRegionContrast,
    point_region_contrast,
    share_without_pair,
)

__all__ = [
    'PixelConsistency',
    'PointAffinityDistillation',
    'PointRegionContrast',
    'dense_contrast',
    'image_contrast',
    'match_positions',
    'near_pairs',
    'pixel_consistency',
    'point_affinity',
    'point_affinity_distillation',
    'point_region_contrast',
    'share_without_pair',
]
