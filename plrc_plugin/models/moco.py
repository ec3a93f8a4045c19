"""MoCo v2: two encoders, a queue of keys, and contrast of whole images."""

from typing import Optional

from torch import Tensor, nn
from torch.nn import functional as F

from plrc_plugin.auto import refuse_unresolved
from plrc_plugin.errors import check_positive, check_positive_integers
from plrc_plugin.losses.image_contrast import image_contrast
from plrc_plugin.models.encoder_pair import EncoderPair, spread
from plrc_plugin.models.key_queue import KeyQueue
from plrc_plugin.models.view_batch import ViewBatch
from plrc_plugin.registry import MODELS


@MODELS.register_module()
class MomentumContrast(EncoderPair):
    """MoCo v2 (Section 3.1): contrast of whole images.

    Args:
        *args, **kwargs: arguments of :class:`EncoderPair`.
        queue_size (int): K. Defaults to 65536.
        temperature (float): tau of L_m. Defaults to 0.2.
        mask_own_keys (bool): whether to leave out keys of the query's own image. Such a key may
            still be in the queue from an earlier epoch, and would be a negative of its own image.
            With K keys and N images this concerns a share K^2 / 2 N^2 of the queries (K <= N).
            Defaults to False, as in the paper.

    Attributes:
        queue (KeyQueue): keys of earlier images.

    Raises:
        SettingsError: if a setting cannot work.
    """

    def __init__(
        self,
        *args,
        queue_size: int = 65536,
        temperature: float = 0.2,
        mask_own_keys: bool = False,
        **kwargs,
    ):
        refuse_unresolved(dict(queue_size=queue_size))
        super().__init__(*args, **kwargs)
        check_positive_integers(type(self).__name__, queue_size=queue_size)
        check_positive(type(self).__name__, temperature=temperature)
        self.mask_own_keys = mask_own_keys
        self.queue = KeyQueue(queue_size, self.embedding_dim, keeps_ids=mask_own_keys)
        self.temperature = temperature

    def loss(self, query: ViewBatch, key: ViewBatch) -> dict[str, Tensor]:
        """Returns L_m alone (Eq. 1)."""
        maps = self.encode(query.image), self.encode_key(key.image)
        terms = self.image_terms(*maps, key.image_ids)
        return dict(loss=terms['l_m'], **terms)

    def image_terms(
        self, query_map: Tensor, key_map: Tensor, image_ids: Optional[Tensor] = None
    ) -> dict[str, Tensor]:
        """Computes L_m of projected maps (B, D, h, w), whose spatial means are the image
        embeddings. Two more numbers show a collapse: ``top1`` in the queue, and ``std``, see
        :func:`spread`. The ids (B,) of the images are needed with ``mask_own_keys``.
        """
        queries = F.normalize(query_map.float().mean((2, 3)), dim=1)
        keys = F.normalize(key_map.float().mean((2, 3)), dim=1)
        own = self.queue.own(image_ids)
        l_m, top1 = image_contrast(queries, keys, self.queue.bank, self.temperature, own)
        self.queue.push(keys, image_ids)
        return dict(l_m=l_m, top1=top1, std=spread(queries))

    def project(self, features: Tensor, projector: nn.Module) -> Tensor:
        """Pools a map, then projects it: (B, C, h, w) to (B, D, 1, 1)."""
        return projector(features.mean((2, 3), keepdim=True))
