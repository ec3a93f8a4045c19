"""Two encoders, one the moving average of the other: the base of every objective here."""

import copy
import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import Optional, Union

import torch
from lightly.models.utils import deactivate_requires_grad
from mmengine.dist import all_reduce, get_world_size
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from torch import Tensor, nn

from plrc_plugin.auto import refuse_unresolved
from plrc_plugin.checkpoints.start import ensure_start, refuse_init_cfg
from plrc_plugin.errors import (
    NonFiniteLossError,
    SettingsError,
    check_positive_integers,
    check_shares,
)
from plrc_plugin.models.input_channels import channels_of
from plrc_plugin.models.keep import Keep, anchor_distance
from plrc_plugin.models.key_queue import KeyQueue
from plrc_plugin.models.projector import conv_projector
from plrc_plugin.models.reading import last_map
from plrc_plugin.models.shuffled_batch import draw_order, redistribute
from plrc_plugin.models.step_watch import MOST_UNSETTLED, StepWatch
from plrc_plugin.models.view_batch import ViewBatch
from plrc_plugin.models.views_preprocessor import ViewsPreprocessor
from plrc_plugin.registry import MODELS


class EncoderPair(BaseModel):
    """Encoder f^E and momentum encoder f^M, which follows the optimiser's steps. Subclasses define
    the loss.

    An optimiser step is noticed by what it does: weights of the encoder's last layers change, see
    :class:`~plrc_plugin.models.step_watch.StepWatch`. The first forward or ``state_dict`` after a
    step moves the momentum encoder and the queues, once. This holds in every training loop.

    Args:
        backbone (dict): config of the trunk, from any registry scope. Its last output map is used.
        embedding_dim (int): D. Defaults to 128.
        momentum (float): momentum of the moving average. Defaults to 0.999.
        shuffle_bn (bool): whether to shuffle the key pass over the ranks, so that batch statistics
            cannot reveal which key belongs to which query. It has no effect on one process, where
            all images share their statistics in any order. Defaults to True.
        symmetric (bool): whether every view is the query once and the key once. This takes twice
            the passes; the loss is the mean of both, and queues take the keys of both. Defaults to
            False.
        data_preprocessor (dict): config of the data preprocessor. Defaults to
            ``ViewsPreprocessor``.
        keep (dict, optional): what to keep of the weights that the model starts from, as arguments
            of :class:`~plrc_plugin.models.keep.Keep`. Defaults to nothing.
        init_cfg (dict, optional): mmengine's initialisation of modules.

    Attributes:
        backbone, projector: the encoder f^E.
        momentum_backbone, momentum_projector: the encoder f^M.
        anchor_backbone: the trunk with its first weights, if ``keep=dict(anchor=...)``.
        stride (int): stride of the backbone's last map.
        epoch (int): epoch of the batch that is being trained on.

    Raises:
        SettingsError: if a setting cannot work, and in training, if a hundred iterations have
            changed no weight.
    """

    def __init__(
        self,
        backbone: dict,
        embedding_dim: int = 128,
        momentum: float = 0.999,
        shuffle_bn: bool = True,
        symmetric: bool = False,
        data_preprocessor: Optional[dict] = None,
        keep: Optional[dict] = None,
        init_cfg: Optional[dict] = None,
    ):
        super().__init__(data_preprocessor or dict(type='plrc_plugin.ViewsPreprocessor'), init_cfg)
        refuse_unresolved(dict(momentum=momentum, keep=keep))
        check_positive_integers(type(self).__name__, embedding_dim=embedding_dim)
        refuse_init_cfg(init_cfg, backbone)
        check_shares(type(self).__name__, momentum=momentum)
        self.embedding_dim = embedding_dim
        self.momentum = momentum
        self.shuffle_bn = shuffle_bn
        self.symmetric = symmetric
        self.epoch = 0
        self._averaged: list[str] = []
        self._steps = StepWatch()
        self.backbone = MODELS.build(backbone)
        if isinstance(self.data_preprocessor, ViewsPreprocessor):
            self.data_preprocessor.follow(self.backbone)
        self.channels, self.stride = _probe(self.backbone)
        self.keep = _keep_of(self.backbone, keep)
        # Images and maps of the online trunk's passes, kept while a loss is computed that needs
        # them.
        self._passes: Optional[list[tuple[Tensor, Tensor]]] = None
        self.projector = self.make_projector()
        self.add_momentum_copy('backbone')
        self.add_momentum_copy('projector')
        if self.keep is not None and self.keep.has_anchor:
            self.anchor_backbone = copy.deepcopy(self.momentum_backbone)
        self._set_kept_modes()

    def make_projector(self) -> nn.Module:
        """Returns the module that maps the backbone's ``self.channels`` to
        ``self.embedding_dim``."""
        return conv_projector(self.channels, self.embedding_dim)

    def add_momentum_copy(self, name: str) -> None:
        """Adds ``momentum_<name>``, the moving average of the module ``<name>``."""
        average = copy.deepcopy(getattr(self, name))
        deactivate_requires_grad(average)
        setattr(self, f'momentum_{name}', average)
        self._averaged.append(name)

    def init_weights(self) -> None:
        """Initialises the encoder as configured; the momentum encoder starts as its copy."""
        super().init_weights()
        for name in self._averaged:
            getattr(self, f'momentum_{name}').load_state_dict(getattr(self, name).state_dict())
        if hasattr(self, 'anchor_backbone'):
            self.anchor_backbone.load_state_dict(self.backbone.state_dict())
        ensure_start(self)

    def train(self, mode: bool = True) -> 'EncoderPair':
        """Sets training or evaluation mode. What ``keep`` freezes always stays in evaluation
        mode."""
        super().train(mode)
        if mode:
            self._set_kept_modes()
        return self

    def _set_kept_modes(self) -> None:
        if self.keep is not None:
            self.keep.set_modes(self.backbone)
            self.keep.set_modes(self.momentum_backbone)
            if self.keep.has_anchor:
                self.anchor_backbone.eval()

    def forward(
        self,
        query: ViewBatch,
        key: Optional[ViewBatch] = None,
        mode: str = 'tensor',
        epoch: Optional[int] = None,
        **_,
    ):
        """The entry for mmengine and for training loops.

        Args:
            query (ViewBatch): view v, or a mapping of its fields.
            key (ViewBatch): view v', for ``mode='loss'``; likewise.
            mode (str): ``'loss'`` for the losses, ``'tensor'`` for the projected map of the query.
            epoch (int, optional): epoch of the batch, which :func:`collate_views` hands on.
                Defaults to the epoch of mmengine's running loop, or 0 without one.

        Returns:
            dict[str, Tensor] | Tensor: scalars, with the total under ``loss``; or the map, (B, D,
            h, w).
        """
        if mode == 'loss':
            query, key = ViewBatch.of(query), ViewBatch.of(key)
            self.epoch = _epoch_of_the_loop() if epoch is None else epoch
            self._steps.before_forward(self._watched())
            self._finish_last_step()
            losses = self._kept_loss(query, key)
            if self.symmetric:
                exchanged = self._kept_loss(key, query)
                losses = {name: (losses[name] + exchanged[name]) / 2 for name in losses}
            self._steps.after_forward(losses['loss'])
            return losses
        if mode == 'tensor':
            return self.encode(ViewBatch.of(query).image)
        raise ValueError(
            f"mode must be 'loss' or 'tensor', got {mode!r}: pre-training predicts nothing"
        )

    def loss(self, query: ViewBatch, key: ViewBatch) -> dict[str, Tensor]:
        """Returns the scalars to log, with the total under ``loss``. Subclasses define it."""
        raise NotImplementedError

    def _kept_loss(self, query: ViewBatch, key: ViewBatch) -> dict[str, Tensor]:
        """Computes :meth:`loss` as ``keep`` asks for it: with a trunk that does not learn yet, or
        with the distance to its first weights as a further term."""
        keep = self.keep
        first_phase = keep is not None and keep.is_first_phase(self.epoch)
        if keep is None or not (first_phase or keep.distillation):
            return self.loss(query, key)
        self._passes = []
        try:
            losses, passes = self.loss(query, key), self._passes
        finally:
            self._passes = None
        if not passes:
            raise SettingsError(
                f'model.keep: the loss of {type(self).__name__} calls neither encode nor '
                'trunk_map, so that keep cannot leave its trunk as it is or hold it near its '
                'first weights'
            )
        if first_phase:
            return losses
        distances = []
        for images, features in passes:
            with torch.no_grad():
                start = last_map(self.anchor_backbone(images))
            distances.append(anchor_distance(features, start))
        l_anchor = torch.stack(distances).mean()
        total = losses.pop('loss') + keep.distillation * l_anchor
        return dict(loss=total, **losses, l_anchor=l_anchor)

    def trunk_map(self, images: Tensor) -> Tensor:
        """Returns the online trunk's last map (B, C, h, w) of images (B, 3, H, W)."""
        if self._passes is None:
            return last_map(self.backbone(images))
        learns = self.keep is None or not self.keep.is_first_phase(self.epoch)
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            features = last_map(self.backbone(images))
        self._passes.append((images, features))
        return features

    def encode(self, images: Tensor) -> Tensor:
        """Applies f^E: turns images (B, 3, H, W) into a projected map (B, D, h, w)."""
        return self.project(self.trunk_map(images), self.projector)

    @torch.no_grad()
    def encode_key(self, images: Tensor) -> Union[Tensor, tuple[Tensor, ...]]:
        """Applies f^M as :meth:`encode` applies f^E, without gradient and with a shuffled batch."""
        if not self.shuffle_bn or get_world_size() == 1:
            return self.momentum_pass(images)
        order = draw_order(len(images) * get_world_size())
        outputs = self.momentum_pass(redistribute(images, order))
        back = order.argsort()
        if isinstance(outputs, tuple):
            return tuple(redistribute(output, back) for output in outputs)
        return redistribute(outputs, back)

    def momentum_pass(self, images: Tensor) -> Union[Tensor, tuple[Tensor, ...]]:
        """Applies f^M to images in any order; returns a projected map, or several tensors of B
        rows."""
        return self.project(last_map(self.momentum_backbone(images)), self.momentum_projector)

    def project(self, features: Tensor, projector: nn.Module) -> Tensor:
        """Projects each position of a map: (B, C, h, w) to (B, D, h, w)."""
        return projector(features)

    def state_dict(self, *args, **kwargs) -> dict:
        """Finishes the last optimiser step, and returns the state after it."""
        self._finish_last_step()
        return super().state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._steps.forget()
        self.discard_keys()

    @property
    def step_is_finished(self) -> bool:
        """Whether the optimiser has stepped since the last forward. If not, because gradients are
        accumulated or a step was skipped, the run has state that no checkpoint holds. The host
        waits for the device."""
        self._finish_last_step()
        self._settle(torch.stack(self._steps.unsettled).tolist())
        return self._steps.is_finished

    def discard_keys(self) -> None:
        """Discards the keys of steps that will not be finished."""
        for queue in self._queues():
            queue.discard()

    @torch.no_grad()
    def _finish_last_step(self) -> None:
        """Moves the momentum encoder and the queues if the optimiser has stepped since the last
        call. The host learns whether it has when ``parse_losses`` fetches it."""
        if len(self._steps.unsettled) >= MOST_UNSETTLED:
            self._settle(torch.stack(self._steps.unsettled).tolist())
        stepped = self._steps.look(self._watched())
        if self.keep is not None and self.keep.averaging:
            self.keep.return_to(self.anchor_backbone, self.backbone, stepped)
            self._steps.see(self._watched())
        weight = (1 - self.momentum) * stepped
        for name in self._averaged:
            average = list(getattr(self, f'momentum_{name}').parameters())
            online = list(getattr(self, name).parameters())
            if average:
                torch._foreach_lerp_(average, online, [weight.to(p.dtype) for p in average])
        for queue in self._queues():
            queue.flush(stepped)

    def _settle(self, found: list) -> None:
        """Records on the host what each look for a step has found since the last time."""
        for step in self._steps.settle(found):
            for queue in self._queues():
                queue.settle(step)

    def _watched(self) -> list[nn.Parameter]:
        """The last two parameters that learn, mostly weight and bias, of the trunk and of each
        projector. All are watched, because an objective need not train them all."""
        watched: list[nn.Parameter] = []
        for name in self._averaged:
            module = getattr(self, name)
            watched += [p for p in module.parameters() if p.requires_grad][-2:]
        return watched

    def _queues(self) -> Iterator[KeyQueue]:
        return (child for child in self.children() if isinstance(child, KeyQueue))

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Returns the total to optimise, and everything to log, averaged over the ranks.

        The numbers are fetched here, all at once. So the host and the device wait for each other
        only between forward and backward, and a loss that is not finite never reaches the weights.

        Raises:
            NonFiniteLossError: on every rank, if a value is infinite or NaN on any.
        """
        logged = torch.stack([value.detach().float() for value in losses.values()])
        if get_world_size() > 1:
            all_reduce(logged, op='mean')
        looks = [look.to(logged).view(1) for look in self._steps.unsettled]
        fetched = torch.cat([logged, *looks]).tolist()
        self._settle(fetched[len(losses) :])
        numbers = OrderedDict(zip(losses, fetched))
        broken = [name for name, value in numbers.items() if not math.isfinite(value)]
        if broken:
            raise NonFiniteLossError(f'{" and ".join(broken)} not finite', numbers)
        return losses['loss'], numbers


def _epoch_of_the_loop() -> int:
    return MessageHub.get_current_instance().get_info('epoch', 0)


@torch.no_grad()
def spread(embeddings: Tensor) -> Tensor:
    """Standard deviation of l2-normalised embeddings (B, D) over the batch, times sqrt(D). It is 1
    if they spread evenly over the sphere, and 0 if they have collapsed."""
    return embeddings.std(0, unbiased=False).mean() * embeddings.shape[1] ** 0.5


def _keep_of(trunk: nn.Module, keep: Optional[dict]) -> Optional[Keep]:
    if keep is None:
        return None
    known = ('frozen_stages', 'norm_eval', 'projector_epochs', 'anchor')
    strange = [name for name in keep if name not in known] if hasattr(keep, 'items') else [keep]
    if strange:
        raise SettingsError(f'model.keep must be a dict of {", ".join(known)}, got {strange[0]!r}')
    return Keep(trunk, **keep)


@torch.no_grad()
def _probe(backbone: nn.Module) -> tuple[int, int]:
    """Measures the channels and the stride of a backbone's last map."""
    training, size = backbone.training, getattr(backbone, 'probe_size', 128)
    backbone.eval()  # mmdet's returns None
    features = last_map(backbone(torch.zeros(1, channels_of(backbone), size, size)))
    backbone.train(training)
    if not isinstance(features, Tensor) or features.dim() != 4:
        raise SettingsError(
            f'backbone {type(backbone).__name__} must give a map (B, C, h, w) as '
            'its last output; choose its out_indices accordingly'
        )
    return features.shape[1], size // features.shape[3]
