"""Probes as mmengine's validation."""

import torch
from mmengine.runner import ValLoop

from plrc_plugin.errors import SettingsError
from plrc_plugin.evaluation.cells import ProbeCells
from plrc_plugin.models.reading import cell_features
from plrc_plugin.registry import LOOPS
from plrc_plugin.wrapped_models import bare_model


@LOOPS.register_module()
class ProbeLoop(ValLoop):
    """mmengine's ``ValLoop`` over ``plrc_plugin.ProbeCells``, whose metrics get frozen features.

    Training does not notice: the weights, the running statistics and what each iteration draws
    stay the same bits.

    Args:
        runner, dataloader, evaluator, ...: of ``ValLoop``.
        projected: features after the projector. Defaults to False, the trunk's.
        momentum: of the momentum encoder. Defaults to False.

    Raises:
        SettingsError: if the data set is another one.
    """

    def __init__(
        self,
        runner,
        dataloader,
        evaluator,
        projected: bool = False,
        momentum: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(runner, dataloader, evaluator, **kwargs)
        if not isinstance(self.dataloader.dataset, ProbeCells):
            raise SettingsError(
                'ProbeLoop: val_dataloader.dataset must be plrc_plugin.ProbeCells, '
                f'got {type(self.dataloader.dataset).__name__}'
            )
        self.projected, self.momentum = projected, momentum

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: dict) -> None:
        """The features of one batch, handed to the metrics."""
        self.runner.call_hook('before_val_iter', batch_idx=idx, data_batch=data_batch)
        model = bare_model(self.runner.model)
        pixels = data_batch['pixels'].to(model.data_preprocessor.device)
        features = cell_features(
            model, pixels, self.dataloader.dataset.cells, self.projected, self.momentum
        )
        self.evaluator.process(data_samples=features, data_batch=data_batch)
        self.runner.call_hook(
            'after_val_iter', batch_idx=idx, data_batch=data_batch, outputs=features
        )
