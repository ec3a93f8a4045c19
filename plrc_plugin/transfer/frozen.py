"""Checks that the frozen parts of a trunk in fine-tuning were filled by a checkpoint."""

from collections.abc import Collection

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from plrc_plugin.errors import SettingsError


def check_frozen(backbone: nn.Module, filled: Collection[str]) -> list[str]:
    """Says which parts of a backbone are frozen.

    Args:
        backbone: the backbone of a detector or segmenter, before the training.
        filled: names of its tensors that a checkpoint filled.

    Returns:
        A line for frozen weights and one for frozen statistics of batch normalisation, if there are
        any.

    Raises:
        SettingsError: if weights or statistics are frozen that no checkpoint has filled.
    """
    lines = []
    frozen = [name for name, value in backbone.named_parameters() if not value.requires_grad]
    new = [name for name in frozen if name not in filled]
    if new:
        raise SettingsError(
            f'backbone.{new[0]} and {len(new) - 1} more are frozen and no checkpoint fills them: '
            'they would stay random. Set model.backbone.frozen_stages=-1'
        )
    if frozen:
        parts = ', '.join(dict.fromkeys(name.partition('.')[0] for name in frozen))
        lines.append(f'frozen as the checkpoint has them: {parts} (model.backbone.frozen_stages)')
    statistics = [
        f'{name}.running_var' if name else 'running_var'
        for name, module in backbone.named_modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    ]
    if statistics and getattr(backbone, 'norm_eval', False):
        new = [name for name in statistics if name not in filled]
        if new:
            raise SettingsError(
                f'model.backbone.norm_eval=True freezes the statistics of backbone.{new[0]} and '
                f'{len(new) - 1} more, which no checkpoint fills: set norm_eval=False'
            )
        lines.append(
            "batch normalisation keeps the checkpoint's statistics, those of small augmented crops "
            'after pre-training (model.backbone.norm_eval=True); norm_eval=False learns new ones'
        )
    return lines
