"""The base of PLRC and of its region-level baseline: contrast of images and of regions, L_m and
L_c."""

from typing import Optional

import torch
from lightly.models.utils import concat_all_gather
from mmengine.dist import get_rank, get_world_size
from torch import Tensor, nn

from plrc_plugin.errors import SettingsError, check_positive_integers, check_shares
from plrc_plugin.losses import share_without_pair
from plrc_plugin.models.key_queue import KeyQueue
from plrc_plugin.models.moco import MomentumContrast
from plrc_plugin.models.view_batch import EncodedView, ViewBatch
from plrc_plugin.registry import MODELS

NEGATIVES = ('image', 'batch', 'ranks', 'queue')


class RegionContrastBase(MomentumContrast):
    """L = beta L_c + (1 - beta) L_m over the embeddings that ``embed`` reads from a projected map.

    Args:
        *args, **kwargs: arguments of :class:`MomentumContrast`.
        beta (float): weight of :meth:`point_loss` against L_m, as in Eq. 6. The authors' code swaps
            the two weights, which is ``beta=0.3`` here. Defaults to 0.7.
        negatives (str): the points j of Eq. 2's denominator. ``'image'``: key points of the same
            image. ``'batch'``: those of this process's batch, as in the paper. ``'ranks'``: those
            of the batches of all processes. ``'queue'``: those of the batch and of a queue of
            earlier key points. Defaults to 'batch'.
        point_queue_size (int): size of the queue with ``negatives='queue'``. Per step, B * M points
            of each process enter it. Defaults to 65536.
        region_contrast (dict, optional): config of L_c. Defaults to ``PointRegionContrast``.

    Raises:
        SettingsError: if a setting cannot work.
    """

    def __init__(
        self,
        *args,
        beta: float = 0.7,
        negatives: str = 'batch',
        point_queue_size: int = 65536,
        region_contrast: Optional[dict] = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        check_shares(type(self).__name__, beta=beta)
        if negatives not in NEGATIVES:
            raise SettingsError(
                f'{type(self).__name__}: negatives must be one of {NEGATIVES}, got {negatives!r}'
            )
        self.beta = beta
        self.negatives = negatives
        if negatives == 'queue':
            check_positive_integers(type(self).__name__, point_queue_size=point_queue_size)
            self.point_queue = KeyQueue(
                point_queue_size, self.embedding_dim, keeps_ids=self.mask_own_keys
            )
        self.region_contrast = MODELS.build(
            region_contrast or dict(type='plrc_plugin.PointRegionContrast')
        )

    def project(self, features: Tensor, projector: nn.Module) -> Tensor:
        """Projects each position of a map: (B, C, h, w) to (B, D, h, w)."""
        return projector(features)

    def embed(self, projected_map: Tensor, view: ViewBatch) -> Tensor:
        """Returns what is contrasted: embeddings (B, M, D), one for each of ``view.regions`` (B,
        M)."""
        raise NotImplementedError

    def loss(self, query: ViewBatch, key: ViewBatch) -> dict[str, Tensor]:
        """Returns the terms and their total.

        Args:
            query (ViewBatch): view v, with ``image``, ``affine`` and ``regions``.
            key (ViewBatch): view v', likewise.

        Returns:
            dict[str, Tensor]: scalars: ``loss``, each unweighted term, ``top1``, ``std``, and
            ``no_common_region``, the share of images that cannot contribute to L_c.
        """
        encoded_query = self._encoded(query, self.encode(query.image))
        encoded_key = self._encoded(key, self.encode_key(key.image))
        terms = self.image_terms(encoded_query.map, encoded_key.map, key.image_ids)
        terms['l_c'] = self.region_contrast(
            encoded_query.embeddings,
            encoded_key.embeddings,
            query.regions,
            key.regions,
            **self._further_negatives(encoded_key),
        )
        point_loss = self.point_loss(terms, encoded_query, encoded_key)
        total = self.beta * point_loss + (1 - self.beta) * terms['l_m']
        without = share_without_pair(query.regions, key.regions)
        return dict(loss=total, **terms, no_common_region=without)

    def point_loss(self, terms: dict, query: EncodedView, key: EncodedView) -> Tensor:
        """Returns what ``beta`` weighs, which is L_c here. Subclasses add further terms to
        ``terms``."""
        return terms['l_c']

    def _encoded(self, view: ViewBatch, projected_map: Tensor) -> EncodedView:
        return EncodedView(view, projected_map, self.embed(projected_map, view))

    @torch.no_grad()
    def _further_negatives(self, key: EncodedView) -> dict:
        """The arguments of L_c that ``self.negatives`` asks for, for the batch's keys (B, M, D)."""
        if self.negatives == 'image':
            return dict(inter_image=False)
        is_point = (key.view.regions >= 0).unsqueeze(2)
        keys = (key.embeddings * is_point).flatten(0, 1)  # zeros are void
        if self.negatives == 'queue':
            ids = key.view.image_ids
            own = self.point_queue.own(ids)
            per_image = key.embeddings.shape[1]
            self.point_queue.push(keys, None if own is None else ids.repeat_interleave(per_image))
            return dict(negatives=self.point_queue.bank, own=own)
        if self.negatives == 'ranks' and get_world_size() > 1:
            gathered, own = concat_all_gather(keys), get_rank() * len(keys)
            return dict(negatives=torch.cat([gathered[:own], gathered[own + len(keys) :]]))
        return dict()
