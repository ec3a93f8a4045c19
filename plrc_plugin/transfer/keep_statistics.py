"""Fine-tuning with the batch-norm statistics of the weights that it starts from."""

from mmengine.hooks import Hook
from torch.nn.modules.batchnorm import _BatchNorm

from plrc_plugin.registry import HOOKS
from plrc_plugin.wrapped_models import bare_model


@HOOKS.register_module()
class KeepTrunkStatistics(Hook):
    """The backbone normalises as in evaluation, by the statistics of its checkpoint, whatever
    trunk it is. Its scales and shifts learn. mmdet's ResNet calls the same ``norm_eval``; the few
    images of a batch of fine-tuning, and the few labelled ones that there may be, have statistics
    of their own.
    """

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Each time: loops put the whole model into training mode after an evaluation."""
        for module in bare_model(runner.model).backbone.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
