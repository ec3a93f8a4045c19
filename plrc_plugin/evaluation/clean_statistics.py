"""Chooses the batch-norm statistics of a frozen trunk: those of its checkpoint, or new ones.

A checkpoint of pre-training holds running means over small, jittered crops. Probes and detectors
show the trunk whole photographs, which have other statistics.
"""

from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

from mmengine.config import Config
from torch import nn

from plrc_plugin.datasets.clean_photographs import CleanPhotographs
from plrc_plugin.errors import SettingsError
from plrc_plugin.models.norm_statistics import estimate_statistics, norms_with_statistics

OF_CHECKPOINT = 'batch-norm statistics: those of the checkpoint'


class CleanStatistics(NamedTuple):
    """Photographs from which statistics are estimated.

    Attributes:
        photographs: number of photographs; None to keep the checkpoint's statistics.
        size: side in pixels to which they are resized.
        folder: the folder, shards or address where they are; None for the images that the config
            trains on.
    """

    photographs: Optional[int] = None
    size: int = 224
    folder: Optional[Union[str, Path]] = None

    def images(self, cfg: Config) -> Optional[CleanPhotographs]:
        """Returns the photographs, from the folder or from a config of pre-training.

        Raises:
            SettingsError: if they cannot be used, or some of the settings are missing.
        """
        if self.photographs is None:
            if self.folder is not None:
                raise SettingsError(
                    f'batch-norm statistics of {self.folder}: say of how many photographs'
                )
            return None
        dataset = cfg.get('train_dataloader', {}).get('dataset')
        if self.folder is not None:
            dataset = dict(type='plrc_plugin.ImageFolder', data_root=str(self.folder), pipeline=[])
        if dataset is None:
            raise SettingsError(
                'batch-norm statistics: the config has no train_dataloader.dataset: give the '
                'folder of the photographs'
            )
        return CleanPhotographs(dataset, self.photographs, self.size)


def renew_statistics(model: nn.Module, images: CleanPhotographs, momentum: bool = False) -> str:
    """Gives the trunk's batch norms the statistics of photographs.

    Args:
        model: a model with ``data_preprocessor``, and ``backbone`` or ``momentum_backbone``.
        images: see :meth:`CleanStatistics.images`.
        momentum: whether to take the momentum encoder.

    Returns:
        A line that says what the statistics are now.

    Raises:
        SettingsError: if the trunk has no batch norm with running statistics.
    """
    trunk: nn.Module = getattr(model, 'momentum_backbone' if momentum else 'backbone')
    if not norms_with_statistics(trunk):
        raise SettingsError(
            f'{type(trunk).__name__} has no batch norm with running statistics: leave the '
            'photographs for them out'
        )
    device = next(trunk.buffers()).device
    preprocessor: Any = model.data_preprocessor
    estimate_statistics(
        trunk, (preprocessor.normalise(pixels.to(device)) for pixels in images.groups())
    )
    return (
        f'batch-norm statistics: of {images.count} photographs of {images.size} x {images.size} '
        'pixels' + (f', {images.replaced} in place of broken ones' if images.replaced else '')
    )
