"""Runs probes as mmengine's validation."""

from typing import Optional

import torch
from mmengine.logging import print_log
from mmengine.runner import ValLoop
from mmengine.runner.amp import autocast
from torch import nn

from plrc_plugin.errors import SettingsError
from plrc_plugin.evaluation.cells import PhotographCells, ProbeCells
from plrc_plugin.evaluation.clean_statistics import CleanStatistics, renew_statistics
from plrc_plugin.models.norm_statistics import (
    read_statistics,
    statistics_restored,
    write_statistics,
)
from plrc_plugin.models.reading import cell_features
from plrc_plugin.registry import LOOPS
from plrc_plugin.wrapped_models import bare_model


@LOOPS.register_module()
class ProbeLoop(ValLoop):
    """mmengine's ``ValLoop``, whose metrics get frozen features of ``plrc_plugin.ProbeCells`` or
    ``PhotographCells``.

    Training is not affected: the weights, the running statistics and the random draws of each
    iteration stay the same, bit for bit.

    Args:
        runner, dataloader, evaluator, fp16: as for ``ValLoop``.
        projected: whether to take features after the projector. Defaults to False, for the trunk's.
        momentum: whether to take those of the momentum encoder. Defaults to False.
        statistics: number of whole photographs on which the trunk's batch-norm statistics are
            estimated anew, for each validation alone. Defaults to None, for the statistics that
            training has averaged over its crops.
        statistics_size: side in pixels to which they are resized. Defaults to 224.
        photographs: their folder. Defaults to None, for the images that the run trains on.

    Raises:
        SettingsError: if the data set is of another type, or the photographs cannot be used.
    """

    def __init__(
        self,
        runner,
        dataloader,
        evaluator,
        projected: bool = False,
        momentum: bool = False,
        statistics: Optional[int] = None,
        statistics_size: int = 224,
        photographs: Optional[str] = None,
        **kwargs,
    ) -> None:
        super().__init__(runner, dataloader, evaluator, **kwargs)
        if not isinstance(self.dataloader.dataset, (ProbeCells, PhotographCells)):
            raise SettingsError(
                'ProbeLoop: val_dataloader.dataset must be plrc_plugin.ProbeCells or '
                f'PhotographCells, got {type(self.dataloader.dataset).__name__}'
            )
        self.projected, self.momentum = projected, momentum
        asked = CleanStatistics(statistics, statistics_size, photographs)
        self._images = asked.images(runner.cfg)
        self._clean = None

    def run(self) -> dict:
        """Runs a validation, with the statistics of photographs if these are asked for."""
        if self._images is not None:
            model = bare_model(self.runner.model)
            with statistics_restored(self._trunk):
                print_log(renew_statistics(model, self._images, self.momentum), 'current')
                self._clean = read_statistics(self._trunk)
        return super().run()

    @property
    def _trunk(self) -> nn.Module:
        model = bare_model(self.runner.model)
        return model.momentum_backbone if self.momentum else model.backbone

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Hands the features of one batch to the metrics."""
        self.runner.call_hook('before_val_iter', batch_idx=idx, data_batch=data_batch)
        model = bare_model(self.runner.model)
        pixels = data_batch['pixels'].to(model.data_preprocessor.device)
        # The statistics are put back at once, because a hook of this validation may save the model.
        with statistics_restored(self._trunk), autocast(enabled=self.fp16):
            if self._clean is not None:
                write_statistics(self._trunk, self._clean)
            features = cell_features(
                model, pixels, self.dataloader.dataset.cells, self.projected, self.momentum
            )
        self.evaluator.process(data_samples=features, data_batch=data_batch)
        self.runner.call_hook(
            'after_val_iter', batch_idx=idx, data_batch=data_batch, outputs=features
        )
