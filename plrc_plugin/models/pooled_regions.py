"""Region-level contrast with pooled features: what the paper compares points with."""

from torch import Tensor

from plrc_plugin.errors import SettingsError
from plrc_plugin.models.embedding import embed_regions
from plrc_plugin.models.plrc import PLRC
from plrc_plugin.registry import MODELS


@MODELS.register_module()
class RegionContrast(PLRC):
    """PLRC with one pooled embedding per region instead of points, and so without L_a.

    The regions, their N draws, the loss (Eq. 2 with regions for points) and the image-level loss
    are PLRC's. The projected map is pooled over each region's mask, as it is over the image for
    L_m. The pipeline has to hand on the masks: ``SampleRegionPoints(points_per_region=1,
    keep_region_map=True)``.

    Args:
        *args, **kwargs: of :class:`PLRC`, without what belongs to L_a.

    Reference:
        Section 4.5.1, Fig. 5 and 6; lightly's ``DetConSLoss`` has this form without momentum.
    """

    def __init__(self, *args, alpha: float = 1.0, strategy: int = 1, **kwargs):
        if alpha != 1:
            raise SettingsError(
                'RegionContrast: affinities of points are not defined for pooled '
                f'regions: leave alpha at 1, got {alpha!r}'
            )
        if strategy != 1:
            raise SettingsError(
                'RegionContrast: strategies are of distillation, which pooled '
                f'regions do not have: leave strategy at 1, got {strategy!r}'
            )
        super().__init__(*args, alpha=1.0, **kwargs)

    def embed(self, projected_map: Tensor, view: dict) -> Tensor:
        """Pooled embeddings (B, N, D) of a view's regions."""
        if 'region_map' not in view or view['region_map'] is None:
            raise SettingsError(
                'RegionContrast pools whole regions: set keep_region_map=True and '
                'points_per_region=1 of SampleRegionPoints in the pipeline'
            )
        return embed_regions(projected_map, view['region_map'], view['regions'])
