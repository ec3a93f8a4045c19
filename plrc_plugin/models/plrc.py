"""Point-Level Region Contrast (Bai et al., CVPR 2022): the model that composes the parts."""

import torch
from lightly.models.utils import concat_all_gather
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import MessageHub
from torch import Tensor, nn

from plrc_plugin.errors import SettingsError, check_shares
from plrc_plugin.models.distillation import STRATEGIES
from plrc_plugin.models.embedding import embed_points
from plrc_plugin.models.key_queue import KeyQueue
from plrc_plugin.models.moco import MomentumContrast
from plrc_plugin.registry import MODELS

NEGATIVES = ('image', 'batch', 'ranks', 'queue')


@MODELS.register_module()
class PLRC(MomentumContrast):
    """L = beta [alpha L_c + (1 - alpha) L_a] + (1 - beta) L_m (Eq. 5 and 6).

    Args:
        alpha (float): weight of L_c against L_a. 1 leaves distillation out. Defaults to 0.5.
        beta (float): weight of the point losses against L_m, as in Eq. 6; the authors' code has it
            the other way round, which is ``beta=0.3``. Defaults to 0.7.
        warmup_epochs (int): epochs without L_a, the other weights unchanged. Defaults to 30.
        strategy (int): of distillation, a key of :data:`~.strategies.STRATEGIES`: 1, 2 or 3 of
            Section 4.5.2. Defaults to 1.
        negatives (str): the points j of Eq. 2's denominator: key points of the same ``'image'``; of
            this process's ``'batch'`` (the paper); of the batches of all ``'ranks'``; or of the
            batch and a ``'queue'`` of earlier key points. Defaults to 'batch'.
        point_queue_size (int): of ``negatives='queue'``; B * M points of each process enter per
            step. Defaults to 65536.
        region_contrast (dict): config of L_c.
        affinity_distillation (dict): config of L_a.
        **kwargs: of :class:`MomentumContrast`.

    Raises:
        SettingsError: if a setting cannot work.
    """

    def __init__(
        self,
        *args,
        alpha: float = 0.5,
        beta: float = 0.7,
        warmup_epochs: int = 30,
        strategy: int = 1,
        negatives: str = 'batch',
        point_queue_size: int = 65536,
        region_contrast: dict = dict(type='plrc_plugin.PointRegionContrast'),
        affinity_distillation: dict = dict(type='plrc_plugin.PointAffinityDistillation'),
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        check_shares('PLRC', alpha=alpha, beta=beta)
        if not isinstance(warmup_epochs, int) or warmup_epochs < 0:
            raise SettingsError(
                f'PLRC: warmup_epochs must be an integer >= 0, got {warmup_epochs!r}'
            )
        if type(strategy) is not int or strategy not in STRATEGIES:
            raise SettingsError(
                f'PLRC: strategy must be one of {list(STRATEGIES)}, got {strategy!r}'
            )
        if negatives not in NEGATIVES:
            raise SettingsError(f'PLRC: negatives must be one of {NEGATIVES}, got {negatives!r}')
        self.negatives = negatives
        if negatives == 'queue':
            self.check_positive_integers(point_queue_size=point_queue_size)
            self.point_queue = KeyQueue(point_queue_size, self.embedding_dim)
        self.alpha = alpha
        self.beta = beta
        self.warmup_epochs = warmup_epochs
        self.strategy = strategy
        self.region_contrast = MODELS.build(region_contrast)
        self.affinity_distillation = MODELS.build(affinity_distillation)

    def project(self, features: Tensor, projector: nn.Module) -> Tensor:
        """Spatial to the end: (B, C, h, w) to (B, D, h, w)."""
        return projector(features)

    def loss(self, query: dict, key: dict) -> dict[str, Tensor]:
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
        query_points = self.embed(query_map, query)
        key_points = self.embed(key_map, key)
        terms['l_c'] = self.region_contrast(
            query_points,
            key_points,
            query['regions'],
            key['regions'],
            **self.further_negatives(key_points, key['regions']),
        )
        point_loss = self.alpha * terms['l_c']
        if self.distills:
            compared = STRATEGIES[self.strategy](
                self, query, key, query_points, key_points, key_map
            )
            terms['l_a'] = self.affinity_distillation(*compared)
            point_loss = point_loss + (1 - self.alpha) * terms['l_a']
        total = self.beta * point_loss + (1 - self.beta) * terms['l_m']
        common = query['regions'].unsqueeze(2) == key['regions'].unsqueeze(1)
        common &= key['regions'].unsqueeze(1) >= 0
        return dict(loss=total, **terms, no_common_region=1 - common.any(2).any(1).float().mean())

    def embed(self, projected_map: Tensor, view: dict) -> Tensor:
        """What is contrasted: the embeddings (B, M, D) of a view's points."""
        return embed_points(projected_map, view['points'])

    @torch.no_grad()
    def further_negatives(self, keys: Tensor, regions: Tensor) -> dict:
        """Arguments of L_c, by ``self.negatives``, for the batch's keys (B, M, D)."""
        if self.negatives == 'image':
            return dict(inter_image=False)
        keys = (keys * (regions >= 0).unsqueeze(2)).flatten(0, 1)  # zeros are void
        if self.negatives == 'queue':
            self.point_queue.push(keys)
            return dict(negatives=self.point_queue.bank)
        if self.negatives == 'ranks' and get_world_size() > 1:
            gathered, own = concat_all_gather(keys), get_rank() * len(keys)
            return dict(negatives=torch.cat([gathered[:own], gathered[own + len(keys) :]]))
        return dict()

    @property
    def distills(self) -> bool:
        """Whether L_a takes part in the current epoch."""
        epoch = MessageHub.get_current_instance().get_info('epoch', 0)
        return self.alpha < 1 and epoch >= self.warmup_epochs
