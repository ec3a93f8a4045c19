"""Draws the conclusions that the numbers allow, from differences paired over seeds and their
intervals."""

import math
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import NamedTuple, Optional

from scipy import stats

LEVEL = 0.95


class Difference(NamedTuple):
    """The difference of two methods with the same labels, seed by seed.

    Attributes:
        method, other: their names.
        column: what was measured.
        values: a difference for each seed that both have.
        interval: 95% interval of the mean (Student's t); None of one seed.
        strict: the interval at which all comparisons of a page hold together (Bonferroni).
    """

    method: str
    other: str
    column: str
    values: tuple[float, ...]
    interval: Optional[tuple[float, float]]
    strict: Optional[tuple[float, float]]

    @property
    def mean(self) -> float:
        return mean(self.values)

    @property
    def verdict(self) -> str:
        """One of 'better', 'worse', 'perhaps better', 'perhaps worse', 'not told apart', 'one
        seed'."""
        if self.interval is None or self.strict is None:
            return 'one seed'
        if len(set(self.values)) == 1:  # rounded numbers may have no spread
            return 'not told apart'
        word = 'better' if self.mean > 0 else 'worse'
        if _excludes_zero(self.strict):
            return word
        return f'perhaps {word}' if _excludes_zero(self.interval) else 'not told apart'


Values = Mapping[str, Mapping[str, Mapping[int, float]]]  # column -> method -> seed -> number


def differences(values: Values, pairs: Sequence[tuple[str, str]]) -> list[Difference]:
    """Returns the differences of pairs of methods in every column in which both have a common
    seed."""
    found = []
    for column, of_column in values.items():
        for method, other in pairs:
            ours, theirs = of_column.get(method, {}), of_column.get(other, {})
            seeds = sorted(set(ours) & set(theirs))
            if seeds:
                each = tuple(ours[seed] - theirs[seed] for seed in seeds)
                found.append((method, other, column, each))
    level = 1 - (1 - LEVEL) / max(1, len(found))
    return [Difference(*one, interval(one[-1], LEVEL), interval(one[-1], level)) for one in found]


def interval(values: Sequence[float], level: float) -> Optional[tuple[float, float]]:
    """Returns Student's interval of the mean; None for one value."""
    if len(values) < 2:
        return None
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return mean(values) - half, mean(values) + half


def paragraph(found: Sequence[Difference], start: str, titles: Mapping[str, str]) -> str:
    """Returns the conclusions in whole sentences."""
    against = [d for d in found if d.other == start]
    if not against:
        return 'Nothing can be said yet: no method has been compared with the start.'
    if all(d.verdict == 'one seed' for d in found):
        return (
            'There is one seed for each number, and so no spread: a difference between two of them '
            'may be chance, and nothing is said about which is better. Two seeds are the least, '
            'three or more are better: start the command again with more --seeds.'
        )
    sentences = []
    for method in dict.fromkeys(d.method for d in against):
        mine = [d for d in against if d.method == method]
        sentences.append(f'{_upper(titles[method])}: {_of_method(mine)}')
    others = [d for d in found if d.other != start and d.verdict in ('better', 'worse')]
    sentences += [
        f'{_upper(titles[d.method])} is {d.verdict} than {titles[d.other]} in {d.column} '
        f'({_number(d)}).'
        for d in others
    ]
    if any(d.other != start for d in found) and not others:
        sentences.append('The methods are not told apart from each other.')
    hints = sum(d.verdict.startswith('perhaps') for d in found)
    compared = sum(d.interval is not None for d in found)
    if hints:
        sentences.append(
            f'"Perhaps" means that the 95% interval excludes 0 while that for all {compared} '
            f'comparisons together does not: of {compared} such intervals about '
            f'{compared * (1 - LEVEL):.1f} would exclude 0 by chance.'
        )
    return ' '.join(sentences)


def _of_method(found: Sequence[Difference]) -> str:
    single = [d for d in found if d.verdict == 'one seed']
    told = [d for d in found if d.verdict not in ('not told apart', 'one seed')]
    clauses = [f'{d.verdict} than the start in {d.column} ({_number(d)})' for d in told]
    left = [d for d in found if d.verdict == 'not told apart']
    if left and not told and not single:
        return f'not told apart from the start in any of {len(found)} columns; {_widest(left)}.'
    if left:
        clauses.append(
            f'not told apart from the start in {len(left)} of {len(found)} columns; {_widest(left)}'
        )
    if single:
        clauses.append(f'one seed, and so nothing to say, in {", ".join(d.column for d in single)}')
    return '; '.join(clauses) + '.'


def _widest(found: Sequence[Difference]) -> str:
    """Says how large a gain or loss the intervals leave possible, which is what "not told apart"
    means."""
    low = min(d.interval[0] for d in found if d.interval)
    high = max(d.interval[1] for d in found if d.interval)
    return f'the 95% intervals leave room from {low:+.1f} to {high:+.1f}'


def _number(found: Difference) -> str:
    if found.interval is None:
        return f'{found.mean:+.2f}, one seed'
    low, high = found.interval
    return f'{found.mean:+.2f}, 95% interval {low:+.2f} to {high:+.2f}, {len(found.values)} seeds'


def _excludes_zero(bounds: tuple[float, float]) -> bool:
    return bounds[0] > 0 or bounds[1] < 0


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
