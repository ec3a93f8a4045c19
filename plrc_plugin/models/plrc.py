"""Point-Level Region Contrast (Bai et al., CVPR 2022): the model that combines the parts."""

from typing import Optional, Union

from torch import Tensor

from plrc_plugin.auto import refuse_unresolved
from plrc_plugin.errors import SettingsError, check_shares
from plrc_plugin.models.embedding import embed_points
from plrc_plugin.models.region_contrast import RegionContrastBase
from plrc_plugin.models.view_batch import EncodedView, ViewBatch
from plrc_plugin.registry import MODELS, STRATEGIES


@MODELS.register_module()
class PLRC(RegionContrastBase):
    """L = beta [alpha L_c + (1 - alpha) L_a] + (1 - beta) L_m (Eq. 5 and 6).

    Args:
        *args, **kwargs: arguments of :class:`RegionContrastBase` and :class:`MomentumContrast`.
        alpha (float): weight of L_c against L_a. With 1 there is no distillation. Defaults to 0.5.
        warmup_epochs (int): number of first epochs without L_a; the other weights do not change.
            Defaults to 30.
        strategy (int | str): strategy of distillation: 1, 2 or 3 of Section 4.5.2, or the name of a
            function registered in :data:`~plrc_plugin.registry.STRATEGIES`. Defaults to 1.
        affinity_distillation (dict, optional): config of L_a. Defaults to
            ``PointAffinityDistillation``.

    Raises:
        SettingsError: if a setting cannot work.
    """

    def __init__(
        self,
        *args,
        alpha: float = 0.5,
        warmup_epochs: int = 30,
        strategy: Union[int, str] = 1,
        affinity_distillation: Optional[dict] = None,
        **kwargs,
    ):
        refuse_unresolved(dict(warmup_epochs=warmup_epochs))
        super().__init__(*args, **kwargs)
        check_shares('PLRC', alpha=alpha)
        if type(warmup_epochs) is not int or warmup_epochs < 0:
            raise SettingsError(
                f'PLRC: warmup_epochs must be an integer >= 0, got {warmup_epochs!r}'
            )
        if type(strategy) not in (int, str) or not callable(STRATEGIES.get(str(strategy))):
            raise SettingsError(
                f'PLRC: strategy must be one of {", ".join(STRATEGIES.module_dict)}, got '
                f'{strategy!r}; if the strategy is your own, name its module in custom_imports'
            )
        self.alpha = alpha
        self.warmup_epochs = warmup_epochs
        self.strategy = strategy
        self.affinity_distillation = MODELS.build(
            affinity_distillation or dict(type='plrc_plugin.PointAffinityDistillation')
        )

    def embed(self, projected_map: Tensor, view: ViewBatch) -> Tensor:
        """Returns the embeddings (B, M, D) of a view's points."""
        if view.points is None:
            raise SettingsError(
                'PLRC contrasts points, and the views have none: add '
                "dict(type='plrc_plugin.SampleRegionPoints') to train_dataloader.dataset.pipeline"
            )
        return embed_points(projected_map, view.points)

    def point_loss(self, terms: dict, query: EncodedView, key: EncodedView) -> Tensor:
        """Returns alpha L_c + (1 - alpha) L_a (Eq. 5), or alpha L_c during the warm-up."""
        total = self.alpha * terms['l_c']
        if self.alpha < 1 and self.epoch >= self.warmup_epochs:
            compared = STRATEGIES.get(str(self.strategy))(query, key, self.encode_key)
            terms['l_a'] = self.affinity_distillation(*compared)
            total = total + (1 - self.alpha) * terms['l_a']
        return total
