"""The objectives: pure functions over embeddings, and the thin modules that configs name."""
from .image_contrast import image_contrast
from .point_affinity_distillation import (PointAffinityDistillation, point_affinity,
                                          point_affinity_distillation)
from .point_region_contrast import PointRegionContrast, point_region_contrast

__all__ = [
    'PointAffinityDistillation', 'PointRegionContrast', 'image_contrast', 'point_affinity',
    'point_affinity_distillation', 'point_region_contrast'
]
