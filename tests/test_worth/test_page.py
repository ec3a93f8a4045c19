"""The page of a comparison: its numbers are those measured, and it fits small and wide windows."""

import csv
import json
import re
from pathlib import Path

import pytest
from browser import CHROMIUM, open_browser

from plrc_plugin.worth.comparing import Asked
from plrc_plugin.worth.labels import LabelledSet
from plrc_plugin.worth.ledger import FINETUNED, FROZEN, PRETRAIN, Ledger
from plrc_plugin.worth.page import Facts, by_column, compared, pairs, write_results
from plrc_plugin.worth.parts import all_parts
from plrc_plugin.worth.planning import Plan, Work
from plrc_plugin.worth.splits import Split

METHODS = ['plrc', 'mocov2', 'region']
PERCENTS, SEEDS = [1, 10, 100], [0, 1, 2]
GAIN = dict(start=0, plrc=1, mocov2=-1, region=0.4)


def numbers(part):
    """Made up: a gain of each method, a spread that is the same for all methods of a seed, and a
    little of their own."""
    if part.kind == PRETRAIN:
        return dict(checkpoint=f'/elsewhere/{part.method}/epoch_3.pth')
    own = 0.05 * ((part.seed + len(part.method)) % 3) + GAIN[part.method] + 5 * part.seed
    if part.kind == FINETUNED:
        return {'box AP': 20 + own + part.percent / 10, 'box AP50': 40 + own}
    return {f'{p:g}': {'linear mIoU': 30 + own, 'k-NN mIoU': 25 + own} for p in PERCENTS}


@pytest.fixture
def made(tmp_path):
    def make(seeds=SEEDS, without=()):
        work = Work(METHODS, seeds, PERCENTS, 20, 500)
        plan = Plan(3, 500, dict(plrc=60, mocov2=50, region=55, frozen=5, finetuned=70))
        weights = Path('a_folder_with_a_long_name/' * 4, 'weights_with_a_long_name_too.pth')
        asked = Asked(Path('photos'), Path('labels'), tmp_path, 8.0, 'resnet50', weights)
        labels = LabelledSet('boxes', ('cat', 'dog'), [])
        split = Split([None] * 120, [None] * 40, 'a quarter tests')
        facts = Facts(asked, labels, split, 3, plan, work, METHODS, [FROZEN, FINETUNED])
        ledger = Ledger(tmp_path)
        parts = all_parts(METHODS, seeds, PERCENTS, [FROZEN, FINETUNED])
        done = []
        for part in parts:
            if part.name not in without:
                with ledger.clock(part.name):
                    pass
                done.append(ledger.write(part, numbers(part)))
        left_out = [part for part in parts if part.name in without]
        write_results(tmp_path, facts, done, left_out, parts, ledger)
        return tmp_path / 'page.html', done

    return make


def test_every_column_has_its_numbers(made):
    page, done = made()
    values = compared(by_column(done, PERCENTS))
    frozen = [f'frozen, {p}%, {probe}' for p in PERCENTS for probe in ('linear', 'k-NN')]
    assert list(values) == [*frozen, *(f'fine-tuned, {p}%' for p in PERCENTS)]
    mean = 20 + 1 + 10 + 5 + 0.05
    assert values['fine-tuned, 100%']['plrc'][1] == pytest.approx(36.1, abs=0.1)
    table = re.search(r'<table id="results">.*?</table>', page.read_text(), re.S)[0]
    rows = re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', table)
    assert [title for title, _ in rows] == [
        'the start as it is',
        'continued by PLRC',
        'continued by MoCo v2',
        'continued by region-level contrast',
    ]
    cell = re.findall('<td>(.*?)</td>', rows[1][1])[-1]
    assert float(cell.split(' ± ')[0]) == pytest.approx(mean, abs=0.06)
    with open(page.parent / 'table.csv') as file:
        found = {(r['config'], r['checkpoint'], r['metric']): r for r in csv.DictReader(file)}
    assert len(found) == 4 * 6 * 2
    assert len(found['frozen, 1%', 'region', 'k-NN mIoU']['values'].split()) == 3


def test_the_verdicts_follow_the_paired_differences(made):
    page, _ = made()
    content = json.loads((page.parent / 'results.json').read_text())
    verdicts = {(d['method'], d['other']): d['verdict'] for d in content['differences']}
    assert verdicts['plrc', 'start'] in ('better', 'perhaps better')
    assert verdicts['mocov2', 'start'] in ('worse', 'perhaps worse')
    assert len(content['differences']) == 9 * len(pairs(METHODS)) == 45
    assert content['paragraph'] in page.read_text().replace('&#34;', '"')
    assert content['paragraph'] in (page.parent / 'table.md').read_text()


def test_what_is_missing_is_named(made):
    page, _ = made(seeds=[0], without=['finetuned-region-1-seed0'])
    text = page.read_text()
    assert '18 of 19 parts are done' in text and 'finetuned-region-1-seed0' in text
    assert 'There is one seed' in text


@pytest.mark.skipif(CHROMIUM is None, reason='no Chromium')
@pytest.mark.parametrize('width', [390, 1280])
def test_the_page_fits_the_window_and_fetches_nothing(width, made, tmp_path):
    path, _ = made()
    with open_browser(tmp_path / 'profile') as page:
        page.open(path, width=width, height=900, mobile=width < 500)
        assert page.evaluate('document.documentElement.scrollWidth') <= width
        small = page.evaluate(
            '[...document.querySelectorAll("figure img")].map(i => i.getBoundingClientRect().width)'
        )
        assert len(small) == 9 and min(small) >= 250
        assert page.complaints == []
        assert [u for u in page.requests if not u.startswith(('file:', 'data:'))] == []
