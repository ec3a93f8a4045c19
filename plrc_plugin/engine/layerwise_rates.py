"""Sets learning rates that fall from the projector to the stem."""

from typing import Optional, Union

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from plrc_plugin.errors import SettingsError
from plrc_plugin.models.stages import stages_of
from plrc_plugin.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerwiseRates(DefaultOptimWrapperConstructor):
    """An optimiser constructor with which each stage of the trunk learns more slowly than the one
    after it.

    Stage s of S + 1 (the stem is stage 0, see :func:`~plrc_plugin.models.stages.stages_of`) has the
    rate ``lr * layer_decay ** (S + 1 - s)``; modules after the trunk have ``lr``. It works with
    SGD, AdamW and every other optimiser that has a learning rate::

        optim_wrapper = dict(
            constructor='plrc_plugin.LayerwiseRates', paramwise_cfg=dict(layer_decay=0.75)
        )

    ``paramwise_cfg`` also takes the settings of mmengine's constructor, such as
    ``norm_decay_mult=0``. Parameters that do not learn, such as those of the momentum encoder, are
    left out. Parameters with equal options form one group.

    Raises:
        SettingsError: if ``layer_decay`` is missing or not in (0, 1], if the optimiser has no
            learning rate, or if the model has no ``backbone``.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: Optional[dict] = None):
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        self.decay = self.paramwise_cfg.get('layer_decay')
        if not isinstance(self.decay, (int, float)) or not 0 < self.decay <= 1:
            raise SettingsError(
                'LayerwiseRates: optim_wrapper.paramwise_cfg.layer_decay must be a factor above 0 '
                f'and at most 1 from each stage to the one before it, got {self.decay!r}'
            )
        if self.base_lr is None:
            raise SettingsError('LayerwiseRates: optim_wrapper.optimizer.lr is not set')

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: Optional[Union[int, float]] = None,
    ) -> None:
        """Makes the groups of mmengine's constructor with the rates of their stages."""
        if not any(parameter.requires_grad for parameter in module.parameters()):
            return
        super().add_params(params, module, prefix, is_dcn_module)
        if prefix:
            return
        backbone = getattr(module, 'backbone', None)
        if backbone is None:
            raise SettingsError(f'LayerwiseRates: {type(module).__name__} has no backbone')
        stages = stages_of(backbone)
        factors = {
            backbone.get_parameter(name): self.decay ** (len(stages) - place)
            for place, names in enumerate(stages)
            for name in names
        }
        groups: dict[tuple, dict] = {}
        for group in params:
            (parameter,) = group['params']
            options = {k: v for k, v in group.items() if k != 'params'}
            options['lr'] = options.get('lr', self.base_lr) * factors.get(parameter, 1)
            key = tuple(sorted((k, str(v)) for k, v in options.items()))
            groups.setdefault(key, dict(params=[], **options))['params'].append(parameter)
        params[:] = groups.values()
        rates = ', '.join(
            f'{self.base_lr * self.decay ** (len(stages) - place):.3g}'
            for place in range(len(stages))
        )
        print_log(
            f'LayerwiseRates: learning rates of the stem and {len(stages) - 1} stages {rates}; of '
            f'the modules after the trunk {self.base_lr:.3g}',
            'current',
        )
