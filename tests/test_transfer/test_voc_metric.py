import numpy as np
import pytest
import torch

from plrc_plugin.transfer.voc_metric import (
    IOU_THRESHOLDS,
    VOCAPMetric,
    average_precision,
    class_aps,
)


def naive_ap(images, threshold, eleven_points):
    """The devkit's procedure, one detection at a time, written from its description."""
    detections = sorted(
        (
            (score, i, box)
            for i, (boxes, scores, _, _) in enumerate(images)
            for box, score in zip(boxes, scores)
        ),
        key=lambda d: -d[0],
    )
    taken, curve, right, wrong = set(), [], 0, 0
    total = sum(not hard for _, _, _, difficult in images for hard in difficult)
    for _, i, (x1, y1, x2, y2) in detections:
        best, best_iou = None, -1
        for j, (a1, b1, a2, b2) in enumerate(images[i][2]):
            w, h = min(x2, a2) - max(x1, a1) + 1, min(y2, b2) - max(y1, b1) + 1
            overlap = w * h if w > 0 and h > 0 else 0
            union = (x2 - x1 + 1) * (y2 - y1 + 1) + (a2 - a1 + 1) * (b2 - b1 + 1) - overlap
            if overlap / union > best_iou:
                best, best_iou = j, overlap / union
        if best_iou > threshold:
            if images[i][3][best]:
                continue
            if (i, best) in taken:
                wrong += 1
            else:
                taken.add((i, best))
                right += 1
        else:
            wrong += 1
        curve.append((right / total, right / (right + wrong)))
    if eleven_points:
        return (
            sum(max([p for r, p in curve if r >= t], default=0) for t in np.arange(11) * 0.1) / 11
        )
    area, last = 0, 0
    for k, (recall, _) in enumerate(curve):
        area += (recall - last) * max(p for _, p in curve[k:])
        last = recall
    return area


def random_images(seed, num_images=12):
    """Jittered copies of random boxes and spurious ones; some images without either."""
    rng, images = np.random.default_rng(seed), []
    for _ in range(num_images):
        gt = rng.integers(0, 60, (rng.integers(0, 5), 2))
        gt = np.hstack([gt, gt + rng.integers(8, 40, gt.shape)]).astype(float)
        found = np.concatenate(
            [
                gt + rng.normal(0, 3, gt.shape),
                gt + rng.normal(0, 6, gt.shape),
                rng.integers(0, 30, (2, 4)) + np.array([0, 0, 40, 40]),
            ]
        )
        found = found[rng.random(len(found)) < 0.8]
        images.append((found, rng.random(len(found)), gt, rng.random(len(gt)) < 0.3))
    return images


@pytest.mark.parametrize('eleven_points', [True, False])
@pytest.mark.parametrize('seed', range(4))
def test_equals_the_naive_count(seed, eleven_points):
    images = random_images(seed)
    expected = [naive_ap(images, t, eleven_points) for t in IOU_THRESHOLDS]
    assert expected[0] > 0.2 and expected[-1] < expected[0]
    np.testing.assert_allclose(class_aps(images, eleven_points), expected, atol=1e-12)


def test_equals_mmdet_at_every_threshold():
    mean_ap = pytest.importorskip('mmdet.evaluation.functional.mean_ap')
    images = random_images(0)
    detections = [[np.c_[boxes, scores]] for boxes, scores, _, _ in images]
    truths = [
        dict(
            bboxes=gt[~hard],
            labels=np.zeros(sum(~hard), int),
            bboxes_ignore=gt[hard],
            labels_ignore=np.zeros(sum(hard), int),
        )
        for _, _, gt, hard in images
    ]
    expected = [
        mean_ap.eval_map(
            detections,
            truths,
            iou_thr=float(t),
            dataset=['a'],
            nproc=1,
            eval_mode='11points',
            use_legacy_coordinate=True,
            logger='silent',
        )[0]
        for t in IOU_THRESHOLDS
    ]
    np.testing.assert_allclose(class_aps(images, True), expected, atol=1e-6)


def test_known_curves():
    # one right detection of two objects: precision 1 up to recall .5
    recall, precision = np.array([0.5]), np.array([1.0])
    assert average_precision(recall, precision, True) == pytest.approx(6 / 11)
    assert average_precision(recall, precision, False) == pytest.approx(0.5)
    assert average_precision(np.array([]), np.array([]), True) == 0


def sample(pred, scores, gt, ignored=()):
    def instances(boxes, **more):
        boxes = torch.tensor(boxes, dtype=torch.float).reshape(-1, 4)
        return dict(bboxes=boxes, labels=torch.zeros(len(boxes), dtype=torch.long), **more)

    return dict(
        pred_instances=instances(pred, scores=torch.tensor(scores)),
        gt_instances=instances(gt),
        ignored_instances=instances(ignored),
    )


def evaluate(*samples, classes=('a',)):
    metric = VOCAPMetric()
    metric.dataset_meta = dict(classes=classes)
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def test_difficult_objects_neither_help_nor_hurt():
    box, other = [0, 0, 20, 20], [40, 40, 60, 60]
    plain = evaluate(sample([box], [0.9], [box]))
    assert plain == {'voc/AP': 100, 'voc/AP50': 100, 'voc/AP75': 100}
    # the most confident detection finds the difficult object; nobody finds the second one
    assert evaluate(sample([box, other], [0.5, 0.9], [box], [other])) == plain
    assert evaluate(sample([box], [0.5], [box], [other])) == plain


def test_a_class_without_objects_counts_as_zero_and_doubles_are_wrong():
    box = [0, 0, 20, 20]
    assert evaluate(sample([box], [0.9], [box]), classes=('a', 'b'))['voc/AP50'] == 50
    doubled = sample([box, box], [0.9, 0.8], [box, [40, 40, 60, 60]])
    assert evaluate(doubled)['voc/AP50'] == pytest.approx(100 * 6 / 11)


def test_ap_is_the_mean_over_ten_thresholds():
    # IoU 20 * 25 / (20 * 30) = .83 counts at .50 ... .80, seven of ten thresholds
    found = evaluate(sample([[0, 0, 19, 24]], [0.9], [[0, 0, 19, 29]]))
    assert found['voc/AP'] == pytest.approx(70) and found['voc/AP75'] == 100


@pytest.mark.stack
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_an_overlap_at_a_threshold_is_no_hit(dtype):
    # IoU 60 / 100: right at .50 and .55. As a float32 it is 0.60000002.
    found = sample([[0, 0, 9, 5]], [0.9], [[0, 0, 9, 9]])
    for instances in found.values():
        instances['bboxes'] = instances['bboxes'].to(dtype)
    assert evaluate(found)['voc/AP'] == pytest.approx(20)


@pytest.mark.stack
def test_areas_beyond_the_integers_of_float32():
    # 3000 x 6000 of 5999 x 6001 pixels, half a pixel over one half; as float32 it is one half.
    found = evaluate(sample([[0, 0, 2999, 5999]], [0.9], [[0, 0, 5998, 6000]]))
    assert found['voc/AP50'] == pytest.approx(100)
