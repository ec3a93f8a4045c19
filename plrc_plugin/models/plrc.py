"""Point-Level Region Contrast (Bai et al., CVPR 2022): the model that composes the parts."""
from typing import Dict, Tuple

from mmengine.logging import MessageHub
from torch import Tensor, nn
from torch.nn import functional as F

from plrc_plugin.errors import SettingsError
from plrc_plugin.registry import MODELS
from plrc_plugin.views import inside, read_points, view_to_view

from .momentum_contrast import MomentumContrast


@MODELS.register_module()
class PLRC(MomentumContrast):
    """L = beta [alpha L_c + (1 - alpha) L_a] + (1 - beta) L_m (Eq. 5 and 6).

    Args:
        alpha (float): weight of L_c against L_a. 1 leaves distillation out. Defaults to 0.5.
        beta (float): weight of the point losses against L_m, as in Eq. 6; the authors' code has it
            the other way round, which is ``beta=0.3``. Defaults to 0.7.
        warmup_epochs (int): epochs without L_a, the other weights unchanged. Defaults to 30.
        strategy (int): of distillation, 1, 2 or 3 (Section 4.5.2), see :meth:`affinities`.
            Defaults to 1.
        region_contrast (dict): config of L_c.
        affinity_distillation (dict): config of L_a.
        **kwargs: of :class:`MomentumContrast`.

    Raises:
        SettingsError: if a setting cannot work.
    """

    def __init__(self, *args, alpha: float = 0.5, beta: float = 0.7, warmup_epochs: int = 30,
                 strategy: int = 1,
                 region_contrast: dict = dict(type='plrc_plugin.PointRegionContrast'),
                 affinity_distillation: dict = dict(type='plrc_plugin.PointAffinityDistillation'),
                 **kwargs):
        super().__init__(*args, **kwargs)
        for name, weight in dict(alpha=alpha, beta=beta).items():
            if not 0 <= weight <= 1:
                raise SettingsError(f'PLRC: {name} must lie in [0, 1], got {weight!r}')
        if not isinstance(warmup_epochs, int) or warmup_epochs < 0:
            raise SettingsError('PLRC: warmup_epochs must be an integer >= 0, got '
                                f'{warmup_epochs!r}')
        if strategy not in (1, 2, 3):
            raise SettingsError(f'PLRC: strategy must be 1, 2 or 3, got {strategy!r}')
        self.alpha = alpha
        self.beta = beta
        self.warmup_epochs = warmup_epochs
        self.strategy = strategy
        self.region_contrast = MODELS.build(region_contrast)
        self.affinity_distillation = MODELS.build(affinity_distillation)

    def project(self, features: Tensor, projector: nn.Module) -> Tensor:
        """Spatial to the end: (B, C, h, w) to (B, D, h, w)."""
        return projector(features)

    def loss(self, query: dict, key: dict) -> Dict[str, Tensor]:
        """The terms L_m, L_c and, after the warm-up, L_a, and their total.

        Args:
            query (dict): view v: ``image`` (B, 3, H, W), ``affine`` (B, 2, 3), ``points``
                (B, M, 2) and ``regions`` (B, M).
            key (dict): view v', likewise.

        Returns:
            dict[str, Tensor]: scalars: ``loss``, each unweighted term, ``top1``, ``std``, and
            ``no_common_region``, the share of images that cannot contribute to L_c.
        """
        query_map = self.encode(query['image'])
        key_map = self.encode_key(key['image'])
        terms = self.image_terms(query_map, key_map)
        query_points = embed_points(query_map, query['points'])
        key_points = embed_points(key_map, key['points'])
        terms['l_c'] = self.region_contrast(query_points, key_points, query['regions'],
                                            key['regions'])
        point_loss = self.alpha * terms['l_c']
        if self.distills:
            terms['l_a'] = self.affinity_distillation(
                *self.affinities(query, key, query_points, key_points, key_map))
            point_loss = point_loss + (1 - self.alpha) * terms['l_a']
        total = self.beta * point_loss + (1 - self.beta) * terms['l_m']
        common = query['regions'].unsqueeze(2) == key['regions'].unsqueeze(1)
        common &= key['regions'].unsqueeze(1) >= 0
        return dict(loss=total, **terms, no_common_region=1 - common.any(2).any(1).float().mean())

    @property
    def distills(self) -> bool:
        """Whether L_a takes part in the current epoch."""
        epoch = MessageHub.get_current_instance().get_info('epoch', 0)
        return self.alpha < 1 and epoch >= self.warmup_epochs

    def affinities(self, query: dict, key: dict, query_points: Tensor, key_points: Tensor,
                   key_map: Tensor) -> Tuple[Tensor, ...]:
        """What the distillation compares, by strategy (Section 4.5.2).

        A prime marks an embedding by f^M; i and k are points of v unless said otherwise.

        1. teacher A_{i'k'}, student A_{ik'}: k' are the points of v', i' is the image position of
           i read in v'.
        2. teacher A_{ik'}, student A_{ik}: k' is the image position of k read in v'.
        3. teacher A_{i'k'}, student A_{ik}: i' and k' are the points of v through f^M, one extra
           momentum forward.

        Returns:
            tuple[Tensor, ...]: student queries and keys, teacher queries and keys, the validity of
            anchors (B, M), and that of keys (B, K).
        """
        is_point = query['regions'] >= 0
        if self.strategy == 3:
            teacher = embed_points(self.encode_key(query['image']), query['points'])
            return query_points, query_points, teacher, teacher, is_point, is_point
        position = view_to_view(query['points'], query['affine'], key['affine'])
        seen = inside(position) & is_point
        same_position = embed_points(key_map, position)
        if self.strategy == 2:
            return query_points, query_points, query_points, same_position, seen, seen
        return query_points, key_points, same_position, key_points, seen, key['regions'] >= 0


def embed_points(projected_map: Tensor, points: Tensor) -> Tensor:
    """l2-normalised embeddings (B, M, D) of points (B, M, 2) of a projected map (B, D, h, w)."""
    return F.normalize(read_points(projected_map, points), dim=2)
