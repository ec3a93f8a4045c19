"""What a pre-training model keeps of the weights that it starts from."""

from collections.abc import Iterator, Mapping
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from plrc_plugin.errors import SettingsError
from plrc_plugin.models.stages import stages_of

_ANCHORS = ('distillation', 'averaging')


class Keep:
    """The setting ``keep`` of :class:`~plrc_plugin.models.encoder_pair.EncoderPair`, for runs that
    start from given weights. By default nothing is kept.

    Args:
        trunk (nn.Module): the online trunk. Its frozen parts stop learning at once.
        frozen_stages (int): k: the stem and the first k stages do not learn, and stay in evaluation
            mode. 0 freezes the stem alone. The stages of a vision transformer are its blocks.
            Defaults to -1, which freezes nothing.
        norm_eval (bool): whether the batch norms of the trunk normalise by the statistics that they
            start with, and keep them. Defaults to False.
        projector_epochs (int): number of first epochs in which the whole trunk keeps its weights
            while the projectors learn. ``norm_eval`` decides what its batch norms do. Defaults to
            0.
        anchor (dict, optional): what holds the trunk near its first weights afterwards.
            ``dict(distillation=w)`` adds w times ``l_anchor``, see :func:`anchor_distance`.
            ``dict(averaging=w)`` moves the weights back by the share w of their distance after each
            optimiser step. Both need a third trunk, ``anchor_backbone``, which checkpoints contain.
            Defaults to None.

    Raises:
        SettingsError: if a setting cannot work.
    """

    def __init__(
        self,
        trunk: nn.Module,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        projector_epochs: int = 0,
        anchor: Optional[Mapping[str, float]] = None,
    ):
        learning = [name for name, p in trunk.named_parameters() if p.requires_grad]
        stages = stages_of(trunk)
        if type(frozen_stages) is not int or not -1 <= frozen_stages < len(stages):
            raise SettingsError(
                f'model.keep.frozen_stages must be -1 (none), 0 (the stem) or a number of stages '
                f'up to {len(stages) - 1}, which is all of this trunk, got {frozen_stages!r}'
            )
        if not isinstance(norm_eval, bool):
            raise SettingsError(f'model.keep.norm_eval must be True or False, got {norm_eval!r}')
        if type(projector_epochs) is not int or projector_epochs < 0:
            raise SettingsError(
                f'model.keep.projector_epochs must be an integer >= 0, got {projector_epochs!r}'
            )
        weights = {} if anchor is None else anchor
        if (
            not isinstance(weights, Mapping)
            or (anchor is not None and not anchor)
            or not all(
                name in _ANCHORS and isinstance(weight, (int, float)) and weight > 0
                for name, weight in weights.items()
            )
            or not weights.get('averaging', 0) <= 1
        ):
            raise SettingsError(
                'model.keep.anchor must be dict(distillation=<weight of the loss>), '
                f'dict(averaging=<share, at most 1>), or both, got {anchor!r}'
            )
        self.frozen = {name for stage in stages[: frozen_stages + 1] for name in stage}
        self._learning = [name for name in learning if name not in self.frozen]
        for name in self.frozen:
            trunk.get_parameter(name).requires_grad_(False)
        self.norm_eval = norm_eval
        self.projector_epochs = projector_epochs
        self.distillation = weights.get('distillation', 0)
        self.averaging = weights.get('averaging', 0)
        if anchor and not self._learning:
            raise SettingsError(
                'model.keep: a trunk that is frozen as a whole needs no anchor: leave it out, or '
                'lower frozen_stages'
            )

    @property
    def has_anchor(self) -> bool:
        return bool(self.distillation or self.averaging)

    @property
    def needs_start(self) -> bool:
        """Whether it would keep random weights if the run starts from no checkpoint."""
        return bool(self.frozen or self.norm_eval or self.projector_epochs or self.has_anchor)

    def is_first_phase(self, epoch: int) -> bool:
        """Whether the trunk does not learn in this epoch."""
        return epoch < self.projector_epochs

    def learning(self, trunk: nn.Module) -> list[nn.Parameter]:
        """The parameters of the online trunk that learn."""
        return [trunk.get_parameter(name) for name in self._learning]

    def set_modes(self, trunk: nn.Module) -> None:
        """Puts the kept parts of a trunk that trains, online or momentum, into evaluation mode."""
        for module in _modules_of(trunk, self.frozen):
            module.eval()
        if self.norm_eval:
            for module in trunk.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    @torch.no_grad()
    def return_to(self, anchor: nn.Module, trunk: nn.Module, stepped: Tensor) -> None:
        """Moves the weights back by the share ``averaging`` if ``stepped``, a () bool tensor, is
        true."""
        share = self.averaging * stepped
        ours, starts = self.learning(trunk), self.learning(anchor)
        torch._foreach_lerp_(ours, starts, [share.to(p.dtype) for p in ours])


def _modules_of(trunk: nn.Module, names: set[str]) -> Iterator[nn.Module]:
    """The modules that have parameters, and only parameters among ``names``."""
    for path, module in trunk.named_modules():
        own = [f'{path}.{name}' if path else name for name, _ in module.named_parameters()]
        if own and names.issuperset(own):
            yield module


def anchor_distance(features: Tensor, start: Tensor) -> Tensor:
    """One minus the cosine between the trunk's features (B, C, h, w) and those of the first weights
    for the same images, averaged over all positions."""
    return 1 - F.cosine_similarity(features.float(), start.float(), dim=1).mean()
