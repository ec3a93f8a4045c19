"""Two encoders, their queue and the image-level loss: MoCo v2, and the ground of all else."""
import copy
from collections import OrderedDict
from typing import Dict, Optional, Tuple

import torch
from lightly.models.utils import (batch_shuffle, batch_unshuffle, deactivate_requires_grad,
                                  update_momentum)
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from plrc_plugin.errors import SettingsError
from plrc_plugin.losses import image_contrast
from plrc_plugin.registry import MODELS

from .key_queue import KeyQueue
from .projector import conv_projector


@MODELS.register_module()
class MomentumContrast(BaseModel):
    """MoCo v2 (Section 3.1): contrast of whole images.

    Args:
        backbone (dict): config of the trunk, of any registry scope; of its outputs the last map is
            used.
        embedding_dim (int): D. Defaults to 128.
        queue_size (int): K. Defaults to 65536.
        momentum (float): of the momentum encoder's moving average. Defaults to 0.999.
        temperature (float): tau of L_m. Defaults to 0.2.
        shuffle_bn (bool): shuffle the key pass over the ranks, so that batch statistics cannot
            betray which key belongs to which query. Without effect on one process, where all images
            share their statistics in any order. Defaults to True.
        data_preprocessor (dict): defaults to ``ViewsPreprocessor``.
        init_cfg (dict, optional): of mmengine.

    Attributes:
        backbone, projector: the encoder f^E.
        momentum_backbone, momentum_projector: the encoder f^M.
        queue (KeyQueue): keys of earlier images.
        stride (int): of the backbone's last map.

    Raises:
        SettingsError: if a setting cannot work.
    """

    def __init__(self, backbone: dict, embedding_dim: int = 128, queue_size: int = 65536,
                 momentum: float = 0.999, temperature: float = 0.2, shuffle_bn: bool = True,
                 data_preprocessor: Optional[dict] = None, init_cfg: Optional[dict] = None):
        super().__init__(data_preprocessor or dict(type='plrc_plugin.ViewsPreprocessor'), init_cfg)
        name = type(self).__name__
        for setting, value in dict(embedding_dim=embedding_dim, queue_size=queue_size).items():
            if not isinstance(value, int) or value < 1:
                raise SettingsError(f'{name}: {setting} must be a positive integer, got {value!r}')
        if not 0 <= momentum <= 1:
            raise SettingsError(f'{name}: momentum must lie in [0, 1], got {momentum!r}')
        if not temperature > 0:
            raise SettingsError(f'{name}: temperature must be positive, got {temperature!r}')
        self.backbone = MODELS.build(backbone)
        channels, self.stride = _probe(self.backbone)
        self.projector = conv_projector(channels, embedding_dim)
        self.momentum_backbone = copy.deepcopy(self.backbone)
        self.momentum_projector = copy.deepcopy(self.projector)
        deactivate_requires_grad(self.momentum_backbone)
        deactivate_requires_grad(self.momentum_projector)
        self.queue = KeyQueue(queue_size, embedding_dim)
        self.momentum = momentum
        self.temperature = temperature
        self.shuffle_bn = shuffle_bn
        self._seen_version: Optional[int] = None

    def init_weights(self) -> None:
        """Initialises as configured; the momentum encoder starts as a copy."""
        super().init_weights()
        self.momentum_backbone.load_state_dict(self.backbone.state_dict())
        self.momentum_projector.load_state_dict(self.projector.state_dict())

    def forward(self, query: dict, key: Optional[dict] = None, mode: str = 'tensor', **_):
        """mmengine's entry.

        Args:
            query (dict): view v, ``image`` (B, 3, H, W) and what the losses read beside it.
            key (dict): view v', for ``mode='loss'``.
            mode (str): ``'loss'``, or ``'tensor'`` for the projected map of the query.

        Returns:
            dict[str, Tensor] | Tensor: scalars with the total under ``loss``, or (B, D, h, w).
        """
        if mode == 'loss':
            self._finish_last_step()
            return self.loss(query, key)
        if mode == 'tensor':
            return self.encode(query['image'])
        raise ValueError(f"mode must be 'loss' or 'tensor', got {mode!r}: pre-training predicts "
                         'nothing')

    def loss(self, query: dict, key: dict) -> Dict[str, Tensor]:
        """L_m alone (Eq. 1)."""
        terms = self.image_terms(self.encode(query['image']), self.encode_key(key['image']))
        return dict(loss=terms['l_m'], **terms)

    def image_terms(self, query_map: Tensor, key_map: Tensor) -> Dict[str, Tensor]:
        """L_m of projected maps (B, D, h, w), whose spatial means are the image embeddings, and
        what tells of a collapse: ``top1`` in the queue, and ``std``, the embeddings' standard
        deviation over the batch times sqrt(D) (1 when spread evenly over the sphere, 0 when
        collapsed).
        """
        queries = F.normalize(query_map.float().mean((2, 3)), dim=1)
        keys = F.normalize(key_map.float().mean((2, 3)), dim=1)
        l_m, top1 = image_contrast(queries, keys, self.queue.bank, self.temperature)
        self.queue.push(keys)
        with torch.no_grad():
            std = queries.std(0, unbiased=False).mean() * queries.shape[1]**0.5
        return dict(l_m=l_m, top1=top1, std=std)

    def encode(self, images: Tensor) -> Tensor:
        """f^E: images (B, 3, H, W) to a projected map (B, D, h, w)."""
        return self.project(last_map(self.backbone(images)), self.projector)

    @torch.no_grad()
    def encode_key(self, images: Tensor) -> Tensor:
        """f^M, with shuffled batch normalisation: like :meth:`encode`, without gradient."""
        shuffles = self.shuffle_bn and get_world_size() > 1
        if shuffles:
            images, order = batch_shuffle(images, distributed=True)
        key_map = self.project(last_map(self.momentum_backbone(images)), self.momentum_projector)
        return batch_unshuffle(key_map, order, distributed=True) if shuffles else key_map

    def project(self, features: Tensor, projector: nn.Module) -> Tensor:
        """Image-level: pooled first, (B, C, h, w) to (B, D, 1, 1)."""
        return projector(features.mean((2, 3), keepdim=True))

    @torch.no_grad()
    def _finish_last_step(self) -> None:
        """Moving average and queue, once per optimiser step and before its first key pass.

        That the optimiser has stepped shows in the parameters' version counter; it holds with
        gradient accumulation, skipped steps of a loss scaler, and any training loop.
        """
        version = next(self.projector.parameters())._version
        if version == self._seen_version:
            return
        self._seen_version = version
        update_momentum(self.backbone, self.momentum_backbone, self.momentum)
        update_momentum(self.projector, self.momentum_projector, self.momentum)
        self.queue.flush()

    def parse_losses(self, losses: Dict[str, Tensor]) -> Tuple[Tensor, Dict[str, Tensor]]:
        """The total to optimise, and everything to log, averaged over the ranks."""
        logged = torch.stack([value.detach().float() for value in losses.values()])
        if get_world_size() > 1:
            all_reduce(logged, op='mean')
        return losses['loss'], OrderedDict(zip(losses, logged.unbind()))


def last_map(outputs) -> Tensor:
    """The last map of a backbone that returns one, or a sequence of them."""
    return outputs[-1] if isinstance(outputs, (tuple, list)) else outputs


@torch.no_grad()
def _probe(backbone: nn.Module, size: int = 128) -> Tuple[int, int]:
    """Channels and stride of a backbone's last map."""
    training = backbone.training
    backbone.eval()  # no chaining: mmdet's ResNet.train() returns nothing
    features = last_map(backbone(torch.zeros(1, 3, size, size)))
    backbone.train(training)
    if not isinstance(features, Tensor) or features.dim() != 4:
        raise SettingsError(f'backbone {type(backbone).__name__} must give a map (B, C, h, w) as '
                            'its last output; choose its out_indices accordingly')
    return features.shape[1], size // features.shape[3]
