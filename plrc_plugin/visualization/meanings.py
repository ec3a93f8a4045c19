"""Explains each number of a run in one line."""

import inspect
from collections.abc import Sequence

from plrc_plugin.registry import METRICS

# Numbers of the package's own models, and of every run. Terms of other models have only their
# names.
MEANINGS = {
    'loss': 'the weighted sum of the terms; it jumps where a term sets in',
    'l_m': 'L_m, contrast of whole images; it rises first, as real keys replace the random queue',
    'l_c': 'L_c, contrast of points between regions; it falls from the beginning',
    'l_a': 'L_a, affinity distillation; it sets in after the warm-up and has no zero to fall to',
    'top1': 'share of images whose own key is nearer than all keys of the queue; it rises',
    'std': 'spread of the embeddings of a batch; 1 is even, near 0 is a collapse',
    'no_common_region': 'share of images whose two views have no region in common; it is constant',
    'lr': 'learning rate, as the schedule sets it',
    'base_lr': 'learning rate of the first group of parameters, as the schedule sets it',
    'momentum': 'momentum of the moving average',
    'grad_norm': 'length of the gradient',
    'data_time': 'seconds of an iteration in which it waits for the loader; it should be near 0',
    'images per second': 'images of all processes together, waiting included',
    'linear_seg/mIoU': 'mIoU in percent of a linear classifier of frozen cells',
    'knn_seg/mIoU': 'mIoU in percent when each cell takes the vote of its nearest cells',
    'affinity/auc': 'probability that two cells of an object are more alike than one of them and '
    'a cell outside; .5 is chance',
    'affinity/auc_boundary': 'affinity/auc among cells next to a border',
    'affinity/auc_same_offset': 'affinity/auc between pairs that lie equally far apart; a map '
    'that is only smooth has .5',
    'affinity/class_auc': 'affinity/auc with all objects of a class as one',
    'affinity/class_auc_boundary': 'affinity/class_auc among cells next to a border',
    'affinity/iou': "IoU of an object with its centre's affinity map, at the best threshold",
    'affinity/iou_boundary': 'affinity/iou among cells next to the border of the object',
    'classify/linear': '% of images whose main class a linear classifier finds',
    'classify/knn': '% of images whose main class their nearest images tell',
}
OF_ENDINGS = {
    '/mIoU_spread': 'standard deviation of mIoU over draws of cells to fit on',
    '/accuracy': '% of cells that get the right class',
}


def meaning(name: str, evaluators: Sequence[dict] = ()) -> str:
    """Says in a line what a number is; returns '' if nothing is known.

    Args:
        name: name of a curve, such as ``l_c`` or ``knn_seg/mIoU``.
        evaluators: configs of the run's probes. A number of theirs that is not listed here is
            explained by the first sentence of the probe's docstring.
    """
    if name in MEANINGS:
        return MEANINGS[name]
    for ending, text in OF_ENDINGS.items():
        if name.endswith(ending):
            return text
    for probe in evaluators:
        kind = METRICS.get(probe.get('type', '')) if isinstance(probe.get('type'), str) else None
        prefix = probe.get('prefix') or getattr(kind, 'default_prefix', None)
        if prefix and name.startswith(f'{prefix}/'):
            return ' '.join((inspect.getdoc(kind) or '').split('\n\n')[0].split()).split('. ')[0]
    return ''
