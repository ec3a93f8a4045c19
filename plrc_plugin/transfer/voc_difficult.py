"""Objects that VOC marks as difficult, in training."""

from plrc_plugin.registry import TRANSFORMS


@TRANSFORMS.register_module()
class TrainOnDifficult:
    """Train on VOC's difficult objects like on any other, as detectron2 does and mmdet does not.

    Goes before ``LoadAnnotations``. Evaluation ignores them in both.
    """

    def __call__(self, results: dict) -> dict:
        for instance in results['instances']:
            instance['ignore_flag'] = 0
        return results
