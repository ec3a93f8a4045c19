"""Uses objects that VOC marks as difficult in training."""

from plrc_plugin.registry import TRANSFORMS


@TRANSFORMS.register_module()
class TrainOnDifficult:
    """Trains on VOC's difficult objects as on any other, as detectron2 does and mmdet does not.

    Put it before ``LoadAnnotations``. Evaluation ignores these objects in both libraries.
    """

    def __call__(self, results: dict) -> dict:
        for instance in results['instances']:
            instance['ignore_flag'] = 0
        return results
