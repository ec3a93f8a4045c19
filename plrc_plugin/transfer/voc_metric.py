"""PASCAL VOC's average precision, as detectron2 reports it."""

from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric

from plrc_plugin.registry import METRICS

IOU_THRESHOLDS = np.arange(50, 100, 5) / 100


def average_precision(recall: np.ndarray, precision: np.ndarray, eleven_points: bool) -> float:
    """Area under a precision-recall curve.

    Args:
        recall, precision: (D,), by falling score.
        eleven_points: whether to take the mean of the best precision at recalls of at least 0, .1,
            ..., 1 (VOC2007), and not the exact area under the falling envelope (since VOC2010).
    """
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if eleven_points:
        first = np.searchsorted(recall, np.arange(0, 1.1, 0.1), side='left')
        return float(np.append(envelope, 0)[first].mean())
    return float(np.sum(np.diff(recall, prepend=0) * envelope))


def pairwise_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU (N, M) of boxes (N, 4) and (M, 4) in inclusive pixels, so that a width is x2 - x1 + 1."""
    top_left = np.maximum(a[:, None, :2], b[:, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[:, 2:])
    overlap = np.clip(bottom_right - top_left + 1, 0, None).prod(axis=2)
    area_a, area_b = ((x[:, 2:] - x[:, :2] + 1).prod(axis=1) for x in (a, b))
    return overlap / (area_a[:, None] + area_b - overlap)


def class_aps(images: Sequence[tuple[np.ndarray, ...]], eleven_points: bool) -> np.ndarray:
    """AP of one class at each of ``IOU_THRESHOLDS``.

    A detection belongs to the object that it overlaps most. Above the threshold, the highest score
    on an object is right and the others are wrong; on a difficult object none of them counts.

    Args:
        images: per image, boxes (D, 4) and scores (D,) of its detections, boxes (G, 4) of its
            objects and whether they are difficult, (G,) bool.

    Returns:
        (10,) in 0..1.
    """
    scores, overlaps, objects, difficult, first_object = [], [], [], [], 0
    for boxes, box_scores, gt_boxes, gt_difficult in images:
        iou = pairwise_iou(boxes, gt_boxes) if len(gt_boxes) else np.full((len(boxes), 1), -1.0)
        scores.append(box_scores)
        overlaps.append(iou.max(axis=1, initial=-1))
        objects.append(iou.argmax(axis=1) + first_object)
        # An image without objects gets one number, which no detection reaches above a threshold.
        difficult.append(gt_difficult if len(gt_boxes) else np.ones(1, bool))
        first_object += max(len(gt_boxes), 1)
    difficult = np.concatenate(difficult)
    order = np.argsort(-np.concatenate(scores), kind='stable')
    overlaps, objects = np.concatenate(overlaps)[order], np.concatenate(objects)[order]

    num_objects = np.count_nonzero(~difficult)
    if not num_objects:
        return np.zeros(len(IOU_THRESHOLDS))
    aps = []
    for threshold in IOU_THRESHOLDS:
        hit = overlaps > threshold
        hits = np.flatnonzero(hit)
        right = np.zeros(len(order), bool)
        right[hits[np.unique(objects[hits], return_index=True)[1]]] = True
        ignored = hit & difficult[objects]
        right, wrong = right[~ignored].cumsum(), (~right)[~ignored].cumsum()
        aps.append(average_precision(right / num_objects, right / (right + wrong), eleven_points))
    return np.array(aps)


@METRICS.register_module()
class VOCAPMetric(BaseMetric):
    """AP, AP50 and AP75 on VOC in percent, as detectron2 and the papers on pre-training count them.

    AP is the mean over the IoU thresholds .50, .55, ..., .95 and the classes. mmdet's ``VOCMetric``
    gives AP50 unless told otherwise, and leaves out classes without objects: here these count as 0.
    Boxes and scores of any precision are counted in float64, because an IoU just below 0.6 is no
    hit at .60, but becomes one if it is rounded to float32.

    Args:
        eleven_points: VOC2007's interpolation; False: the area, as from VOC2010 on.
        collect_device, prefix: see ``mmengine.evaluator.BaseMetric``.
    """

    default_prefix = 'voc'

    def __init__(self, eleven_points: bool = True, **kwargs) -> None:
        super().__init__(**kwargs)
        self.eleven_points = eleven_points

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keeps the boxes of mmdet's samples as arrays; ``ignored_instances`` are the difficult
        objects."""
        for sample in data_samples:
            found, objects, ignored = (
                sample[key] for key in ('pred_instances', 'gt_instances', 'ignored_instances')
            )
            self.results.append(
                dict(
                    boxes=_array(found['bboxes']),
                    scores=_array(found['scores']),
                    labels=_array(found['labels']),
                    gt_boxes=np.concatenate([_array(x['bboxes']) for x in (objects, ignored)]),
                    gt_labels=np.concatenate([_array(x['labels']) for x in (objects, ignored)]),
                    difficult=np.repeat(
                        [False, True], [len(x['labels']) for x in (objects, ignored)]
                    ),
                )
            )

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        aps = []
        for label in range(len(self.dataset_meta['classes'])):
            images = []
            for r in results:
                found, true = r['labels'] == label, r['gt_labels'] == label
                images.append(
                    (
                        r['boxes'][found],
                        r['scores'][found],
                        r['gt_boxes'][true],
                        r['difficult'][true],
                    )
                )
            aps.append(class_aps(images, self.eleven_points))
        at = 100 * np.mean(aps, axis=0)
        return dict(AP=float(at.mean()), AP50=float(at[0]), AP75=float(at[5]))


def _array(x) -> np.ndarray:
    """Turns a tensor or a box structure of mmdet into an array, of float64 if its numbers are
    floating-point."""
    x = getattr(x, 'tensor', x).cpu()
    return (x.double() if x.is_floating_point() else x).numpy()
