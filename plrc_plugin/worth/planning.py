"""Divides the budget over the parts of a comparison before the first of them begins."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from plrc_plugin.errors import SettingsError
from plrc_plugin.worth.ledger import FINETUNED, FROZEN

# The rest is a reserve for work that the short timing did not include.
SHARE = 0.9
LEAST_ITERATIONS, MOST_EPOCHS = 20, 24


class Timing(NamedTuple):
    """Measured seconds.

    Attributes:
        startup: time of a run until its first iteration.
        epoch: time of an epoch of pre-training, by method.
        probe: time of the probes of one trunk; None if no probes are asked for. iteration,
            evaluation: times of fine-tuning; None if it is not asked for.
    """

    startup: float
    epoch: Mapping[str, float]
    probe: Optional[float]
    iteration: Optional[float]
    evaluation: Optional[float]


class Work(NamedTuple):
    """The number of parts, and their largest lengths.

    Attributes:
        methods: those that continue the start. seeds, percents: those that are asked for.
        epochs: most epochs of pre-training, from the recipe.
        iterations: most iterations of fine-tuning.
    """

    methods: Sequence[str]
    seeds: Sequence[int]
    percents: Sequence[float]
    epochs: int
    iterations: int


class Plan(NamedTuple):
    """Lengths, and seconds of one part of each kind: 'frozen', 'finetuned' or a method."""

    epochs: int
    iterations: int
    seconds: dict[str, float]


def divide(hours: float, work: Work, timing: Timing) -> Plan:
    """Divides a budget.

    The probes and the starts of the runs come first. Pre-training gets half of the remaining time,
    or all of it if nothing is fine-tuned, and fine-tuning gets the rest. All methods get the same
    number of epochs, all fine-tunings the same number of iterations.

    Raises:
        SettingsError: if it does not pay for one epoch and for the least iterations of each part;
            it names the least budget.
    """
    seeds = len(work.seeds)
    trunks = (len(work.methods) + 1) * seeds
    finetunings = trunks * len(work.percents) if timing.iteration is not None else 0
    trainings = len(work.methods) * seeds
    epoch = sum(timing.epoch[method] for method in work.methods) * seeds
    iteration = finetunings * (timing.iteration or 0)
    fixed = (
        trunks * (timing.probe or 0)
        + (trainings + finetunings) * timing.startup
        + finetunings * (timing.evaluation or 0)
    )
    given = SHARE * hours * 3600 - fixed
    least = epoch + LEAST_ITERATIONS * iteration
    if given < least:
        needed = (fixed + least) / SHARE / 3600
        raise SettingsError(
            f'a budget of {_shown(hours)} hours does not pay for {_least(finetunings)}: give at '
            f'least --hours {_up(needed)}, or fewer --seeds or --methods'
            + (', fewer --fractions, or --only frozen' if finetunings else '')
        )
    epochs = work.epochs
    if epoch:
        half = given / 2 if finetunings else given
        epochs = max(1, min(work.epochs, math.floor(half / epoch)))
    iterations = 0
    if finetunings:
        paid = math.floor((given - epochs * epoch) / iteration)
        iterations = max(LEAST_ITERATIONS, min(work.iterations, paid))
    seconds = {m: timing.startup + epochs * timing.epoch[m] for m in work.methods}
    if timing.probe is not None:
        seconds[FROZEN] = timing.probe
    if finetunings:
        seconds[FINETUNED] = (
            timing.startup + iterations * (timing.iteration or 0) + (timing.evaluation or 0)
        )
    return Plan(epochs, iterations, seconds)


def plan_table(hours: float, work: Work, plan: Plan) -> str:
    """Returns a table for the user: what is done, how often, and how long it will probably take."""
    seeds = len(work.seeds)
    trunks = (len(work.methods) + 1) * seeds
    rows = [
        (f'pre-training by {m}, {plan.epochs} epochs', seeds, plan.seconds[m]) for m in work.methods
    ]
    if FROZEN in plan.seconds:
        rows.append(('probes of a frozen trunk', trunks, plan.seconds[FROZEN]))
    if FINETUNED in plan.seconds:
        text = f'fine-tuning and test, {plan.iterations} iterations'
        rows.append((text, trunks * len(work.percents), plan.seconds[FINETUNED]))
    whole = sum(times * seconds for _, times, seconds in rows)
    rows.append(('together', sum(times for _, times, _ in rows), whole))
    width = max(len(text) for text, *_ in rows)
    lines = [f'  {"part":<{width}}  {"times":>5}  {"each":>8}  {"all":>8}']
    for text, times, seconds in rows[:-1]:
        each, every = duration(seconds), duration(times * seconds)
        lines.append(f'  {text:<{width}}  {times:>5}  {each:>8}  {every:>8}')
    lines.append(f'  {"together":<{width}}  {rows[-1][1]:>5}  {"":>8}  {duration(whole):>8}')
    lines.append(f'  of the budget of {_shown(hours)} hours')
    return '\n'.join(lines)


def duration(seconds: float) -> str:
    """Returns '42 s', '3.5 min' or '2.5 h'."""
    if seconds < 90:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.1f} min' if seconds < 5400 else f'{seconds / 3600:.1f} h'


def _least(finetunings: int) -> str:
    epoch = 'one epoch of each method, the probes'
    if not finetunings:
        return epoch.replace(',', ' and')
    return f'{epoch} and {LEAST_ITERATIONS} iterations of each of {finetunings} fine-tunings'


def _shown(hours: float) -> str:
    return f'{hours:.3g}'


def _up(hours: float) -> str:
    unit = 10.0 ** (math.floor(math.log10(hours)) - 1)
    return f'{math.ceil(hours / unit) * unit:.2g}'
