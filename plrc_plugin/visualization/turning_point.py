"""Finds where the quality of a run turns down while its loss still falls."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

Curve = Sequence[tuple[int, float]]
# Metrics that validation may give, in the order in which they are preferred. Probes read masks; DSE
# reads none.
QUALITIES = ('linear_seg/mIoU', 'knn_seg/mIoU', 'dse/score')
# How many validations after the best one have to be worse, because a single one may be noise.
PATIENCE = 2


class TurningPoint(NamedTuple):
    """The best validation of a run whose quality fell after it.

    Attributes:
        metric: name of the quality.
        step: iteration of the best validation.
        best, last: quality at that validation, and at the last one. loss_then, loss_last: loss at
        these iterations.
    """

    metric: str
    step: int
    best: float
    last: float
    loss_then: float
    loss_last: float

    def sentence(self) -> str:
        """Says what happened, and which checkpoint to take."""
        return (
            f'{self.metric} was best at iteration {self.step} ({self.best:.4g}) and fell to '
            f'{self.last:.4g}, while the loss went on from {self.loss_then:.4g} to '
            f'{self.loss_last:.4g}: take the checkpoint of iteration {self.step}, which '
            f"default_hooks.checkpoint.save_best='{self.metric}' keeps."
        )


def turning_point(
    metric: str, quality: Curve, loss: Curve, patience: int = PATIENCE
) -> Optional[TurningPoint]:
    """Finds where a quality (higher is better) turns down for good while the loss still falls.

    Args:
        metric: name of the quality.
        quality: (iteration, value) for each validation.
        loss: (iteration, value) from the log.
        patience: number of validations that must follow the best one, all of them worse.

    Returns:
        None if the best validation is among the last ``patience``, or if the loss does not fall
        after it.
    """
    if len(quality) <= patience or not loss:
        return None
    best = max(range(len(quality)), key=lambda i: (quality[i][1], -i))
    if len(quality) - 1 - best < patience:
        return None
    (step, value), (end, last) = quality[best], quality[-1]
    then, finally_ = _at(loss, step), _at(loss, end)
    if last >= value or finally_ >= then:
        return None
    return TurningPoint(metric, step, value, last, then, finally_)


def turning_points(metrics: Mapping[str, Curve], loss: Curve) -> list[TurningPoint]:
    """Returns the turning points of each of :data:`QUALITIES` that a run has."""
    found = [turning_point(name, metrics[name], loss) for name in QUALITIES if name in metrics]
    return [point for point in found if point is not None]


def _at(curve: Curve, step: int) -> float:
    """The mean of the value at a step and of its neighbours in the log, which smooths it."""
    nearest = min(range(len(curve)), key=lambda i: abs(curve[i][0] - step))
    some = [value for _, value in curve[max(0, nearest - 1) : nearest + 2]]
    return sum(some) / len(some)
