"""The budget and what the numbers allow to say."""

import pytest
from scipy import stats

from plrc_plugin.errors import SettingsError
from plrc_plugin.worth.comparison import differences, interval, paragraph
from plrc_plugin.worth.planning import SHARE, Timing, Work, divide, plan_table

TIMING = Timing(startup=10, epoch=dict(plrc=100, mocov2=80), probe=30, iteration=0.5, evaluation=20)
WORK = Work(['plrc', 'mocov2'], [0, 1, 2], [1, 10, 100], epochs=20, iterations=3000)
TITLES = dict(start='the start as it is', plrc='continued by PLRC', mocov2='by MoCo v2')


def cost(plan, work=WORK):
    """Of all parts, in seconds."""
    trunks = (len(work.methods) + 1) * len(work.seeds)
    return (
        sum(plan.seconds[m] * len(work.seeds) for m in work.methods)
        + trunks * plan.seconds.get('frozen', 0)
        + trunks * len(work.percents) * plan.seconds.get('finetuned', 0)
    )


@pytest.mark.parametrize('hours', [1, 2, 5, 24, 1000])
@pytest.mark.parametrize('only', [None, 'frozen', 'finetuned'])
def test_a_plan_fits_its_budget_and_uses_it(hours, only):
    timing = TIMING
    if only == 'frozen':
        timing = TIMING._replace(iteration=None, evaluation=None)
    if only == 'finetuned':
        timing = TIMING._replace(probe=None)
    plan = divide(hours, WORK, timing)
    assert 1 <= plan.epochs <= WORK.epochs
    assert cost(plan) <= SHARE * hours * 3600 + 1e-6
    at_most = plan.epochs == WORK.epochs and plan.iterations in (0, WORK.iterations)
    # an iteration of each fine-tuning, or an epoch of each method, would be too much
    step = (27 * TIMING.iteration) if plan.iterations else 3 * 180
    assert at_most or cost(plan) + step > SHARE * hours * 3600
    assert ('frozen' in plan.seconds) == (only != 'finetuned')


def test_a_budget_that_is_too_small_names_the_least_one():
    with pytest.raises(SettingsError, match='does not pay for one epoch') as error:
        divide(1 / 60, WORK, TIMING)
    least = float(str(error.value).split('--hours ')[1].split(',')[0])
    assert divide(least, WORK, TIMING).epochs == 1
    with pytest.raises(SettingsError):
        divide(0.9 * least, WORK, TIMING)


def test_the_plan_says_what_is_done_how_often_and_how_long():
    plan = divide(5, WORK, TIMING)
    text = plan_table(5, WORK, plan)
    assert f'pre-training by plrc, {plan.epochs} epochs' in text and 'budget of 5 hours' in text
    assert f'fine-tuning and test, {plan.iterations} iterations     27' in text


def test_intervals_are_students():
    low, high = interval([1, 2, 4], 0.95)
    expected = stats.ttest_1samp([1, 2, 4], 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx(tuple(expected))
    assert interval([1], 0.95) is None


def values(**methods):
    return {'frozen, 100%': {name: dict(enumerate(of)) for name, of in methods.items()}}


def test_differences_are_paired_by_seed():
    (found,) = differences(values(start=[10, 20, 30], plrc=[11, 21.1, 30.9]), [('plrc', 'start')])
    assert found.values == pytest.approx((1, 1.1, 0.9)) and found.verdict == 'better'
    missing = values(start=[10, 20, 30], plrc=[11])
    assert differences(missing, [('plrc', 'start')])[0].verdict == 'one seed'
    assert differences(missing, [('mocov2', 'start')]) == []


def test_many_comparisons_ask_for_more():
    found = values(start=[10, 20, 30], plrc=[11, 21.4, 31.7])
    assert differences(found, [('plrc', 'start')])[0].verdict == 'better'
    many = {f'column {i}': next(iter(found.values())) for i in range(20)}
    assert {d.verdict for d in differences(many, [('plrc', 'start')])} == {'perhaps better'}


def test_one_seed_says_nothing():
    found = differences(values(start=[10], plrc=[99]), [('plrc', 'start')])
    said = paragraph(found, 'start', TITLES)
    assert 'may be chance' in said and '99' not in said and 'better than' not in said


def test_the_paragraph_never_says_more_than_the_spreads_allow():
    same = differences(values(start=[10, 20, 30], plrc=[12, 19, 31]), [('plrc', 'start')])
    said = paragraph(same, 'start', TITLES)
    assert 'not told apart from the start in any of 1 columns' in said and 'leave room' in said
    both = values(start=[10, 20, 30], plrc=[12, 22.1, 32], mocov2=[8, 18, 27.9])
    pairs = [('plrc', 'start'), ('mocov2', 'start'), ('plrc', 'mocov2')]
    said = paragraph(differences(both, pairs), 'start', TITLES)
    assert 'Continued by PLRC: better than the start in frozen, 100% (+2.03' in said
    assert 'By MoCo v2: worse than the start' in said
    assert 'Continued by PLRC is better than by MoCo v2' in said
    assert 'Nothing can be said' in paragraph([], 'start', TITLES)


def test_columns_of_one_seed_are_named_and_equal_differences_are_no_certainty():
    mixed = {
        **values(start=[10, 20, 30], plrc=[12, 19, 31]),
        'fine-tuned, 100%': dict(start={0: 1.0}, plrc={0: 2.0}),
    }
    said = paragraph(differences(mixed, [('plrc', 'start')]), 'start', TITLES)
    assert 'one seed, and so nothing to say, in fine-tuned, 100%' in said
    assert 'one seed than' not in said and 'better than' not in said
    rounded = differences(values(start=[0.0, 0.0], plrc=[0.5, 0.5]), [('plrc', 'start')])
    assert [d.verdict for d in rounded] == ['not told apart']
