"""DenseCL (Wang et al., CVPR 2021), for comparison; it is not part of the paper."""

from torch import Tensor
from torch.nn import functional as F

from plrc_plugin.errors import check_shares
from plrc_plugin.losses.dense_contrast import dense_contrast, match_positions
from plrc_plugin.models.key_queue import KeyQueue
from plrc_plugin.models.moco import MomentumContrast
from plrc_plugin.models.projector import conv_projector
from plrc_plugin.models.reading import last_map
from plrc_plugin.models.view_batch import ViewBatch
from plrc_plugin.registry import MODELS


@MODELS.register_module()
class DenseCL(MomentumContrast):
    """L = (1 - lambda) L_q + lambda L_r: MoCo v2, with a contrast of matched positions of the map.

    A second projector keeps the map. Each of its h * w positions has one positive: the position of
    the other view whose backbone feature is most similar. The negatives are the pooled maps of
    earlier images, in a queue of their own.

    Args:
        *args, **kwargs: arguments of :class:`MomentumContrast`.
        dense_weight (float): lambda. Defaults to 0.5.

    Reference:
        arXiv 2011.09157, Section 3.
    """

    def __init__(self, *args, dense_weight: float = 0.5, **kwargs):
        super().__init__(*args, **kwargs)
        check_shares('DenseCL', dense_weight=dense_weight)
        self.dense_weight = dense_weight
        self.dense_projector = conv_projector(self.channels, self.embedding_dim)
        self.add_momentum_copy('dense_projector')
        self.dense_queue = KeyQueue(
            len(self.queue.bank), self.embedding_dim, keeps_ids=self.mask_own_keys
        )

    def loss(self, query: ViewBatch, key: ViewBatch) -> dict[str, Tensor]:
        """Returns ``l_m`` (L_q of DenseCL's paper), ``l_dense`` (L_r) and their total."""
        features = self.trunk_map(query.image)
        key_features, key_vector, key_map = self.encode_key(key.image)
        query_vector = self.project(features, self.projector)
        terms = self.image_terms(query_vector, key_vector, key.image_ids)
        queries = _positions(self.dense_projector(features))
        matches = match_positions(_rows(features), _rows(key_features))
        l_dense = dense_contrast(
            queries,
            _positions(key_map),
            matches,
            self.dense_queue.bank,
            self.temperature,
            self.dense_queue.own(key.image_ids),
        )
        self.dense_queue.push(F.normalize(key_map.float().mean((2, 3)), dim=1), key.image_ids)
        total = (1 - self.dense_weight) * terms['l_m'] + self.dense_weight * l_dense
        return dict(loss=total, **terms, l_dense=l_dense)

    def momentum_pass(self, images: Tensor) -> tuple[Tensor, ...]:
        """Returns the backbone map, the pooled projection and the dense projection of f^M."""
        features = last_map(self.momentum_backbone(images))
        return (
            features,
            self.project(features, self.momentum_projector),
            self.momentum_dense_projector(features),
        )


def _rows(feature_map: Tensor) -> Tensor:
    """Turns (B, C, h, w) into (B, h * w, C)."""
    return feature_map.flatten(2).transpose(1, 2)


def _positions(projected_map: Tensor) -> Tensor:
    """The l2-normalised embeddings (B, h * w, D) of a map's positions."""
    return F.normalize(_rows(projected_map).float(), dim=2)
