"""Region-level contrast with pooled features, the baseline that the paper compares points with."""

from torch import Tensor

from plrc_plugin.errors import SettingsError
from plrc_plugin.models.embedding import embed_regions
from plrc_plugin.models.region_contrast import RegionContrastBase
from plrc_plugin.models.view_batch import ViewBatch
from plrc_plugin.registry import MODELS

_OF_L_A = ('alpha', 'strategy', 'warmup_epochs', 'affinity_distillation')


@MODELS.register_module()
class RegionContrast(RegionContrastBase):
    """Contrasts one pooled embedding per region instead of points, and so has no L_a.

    The regions, their N draws, the loss (Eq. 2 with regions in place of points) and the image-level
    loss are those of PLRC. The projected map is pooled over each region's mask, as L_m pools it
    over the image. The pipeline has to hand on the masks: ``SampleRegionPoints(points_per_region=1,
    keep_region_map=True)``.

    Args:
        *args, **kwargs: arguments of :class:`RegionContrastBase`.

    Raises:
        SettingsError: if a setting cannot work, or belongs to L_a.

    Reference:
        Section 4.5.1, Fig. 5 and 6; lightly's ``DetConSLoss`` has this form, without a momentum
        encoder.
    """

    def __init__(self, *args, **kwargs):
        of_l_a = [name for name in _OF_L_A if name in kwargs]
        if of_l_a:
            raise SettingsError(
                f'RegionContrast: {", ".join(of_l_a)} belong to L_a, which compares points and is '
                'not defined for pooled regions: leave them out (model=dict(_delete_=True, ...) in '
                'a config that inherits them)'
            )
        super().__init__(*args, **kwargs)

    def embed(self, projected_map: Tensor, view: ViewBatch) -> Tensor:
        """Returns the pooled embeddings (B, N, D) of a view's regions."""
        if view.region_map is None:
            raise SettingsError(
                'RegionContrast pools whole regions: set keep_region_map=True and '
                'points_per_region=1 of SampleRegionPoints in the pipeline'
            )
        return embed_regions(projected_map, view.region_map, view.regions)
