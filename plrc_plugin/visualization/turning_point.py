"""Where the quality of a run turns down while its loss still falls."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

Curve = Sequence[tuple[int, float]]
# A metric that validation may give, in the order in which it is asked: probes read masks, DSE none.
QUALITIES = ('linear_seg/mIoU', 'knn_seg/mIoU', 'dse/score')
# Validations after the best one that have to be worse: one alone may be noise.
PATIENCE = 2


class TurningPoint(NamedTuple):
    """The best validation of a run whose quality fell after it.

    Attributes:
        metric: name of the quality.
        step: iteration of the best validation.
        best, last: quality then, and at the last validation.
        loss_then, loss_last: loss at these iterations.
    """

    metric: str
    step: int
    best: float
    last: float
    loss_then: float
    loss_last: float

    def sentence(self) -> str:
        """For people: what happened, and what to take."""
        return (
            f'{self.metric} was best at iteration {self.step} ({self.best:.4g}) and fell to '
            f'{self.last:.4g}, while the loss went on from {self.loss_then:.4g} to '
            f'{self.loss_last:.4g}: take the checkpoint of iteration {self.step}, which '
            f"default_hooks.checkpoint.save_best='{self.metric}' keeps."
        )


def turning_point(
    metric: str, quality: Curve, loss: Curve, patience: int = PATIENCE
) -> Optional[TurningPoint]:
    """Where a quality, the more the better, turns down for good while the loss still falls.

    Args:
        metric: name of the quality.
        quality: (iteration, value) of each validation.
        loss: (iteration, value) of the log.
        patience: validations that have to follow the best one, all of them worse.

    Returns:
        None if the best validation is among the last ``patience``, or the loss does not fall after
        it: then the two do not part.
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
    """Of each of :data:`QUALITIES` that a run has."""
    found = [turning_point(name, metrics[name], loss) for name in QUALITIES if name in metrics]
    return [point for point in found if point is not None]


def _at(curve: Curve, step: int) -> float:
    """The mean of the value at a step and of its neighbours in the log, which smooths it."""
    nearest = min(range(len(curve)), key=lambda i: abs(curve[i][0] - step))
    some = [value for _, value in curve[max(0, nearest - 1) : nearest + 2]]
    return sum(some) / len(some)
