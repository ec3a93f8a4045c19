"""Fine-tunes with the batch-norm statistics of the weights that it starts from."""

from mmengine.hooks import Hook
from torch.nn.modules.batchnorm import _BatchNorm

from plrc_plugin.registry import HOOKS
from plrc_plugin.wrapped_models import bare_model


@HOOKS.register_module()
class KeepTrunkStatistics(Hook):
    """Makes any backbone normalise by the statistics of its checkpoint, as in evaluation. Its
    scales and shifts learn. mmdet's ResNet calls this ``norm_eval``. The few images of a batch in
    fine-tuning would give other, noisy statistics.
    """

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """This is done each time, because loops put the whole model into training mode after an
        evaluation."""
        for module in bare_model(runner.model).backbone.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
