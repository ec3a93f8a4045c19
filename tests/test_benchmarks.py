"""Every benchmark runs, at a small size, and writes its page. No time is asserted."""

import importlib
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def run(tmp_path, photo, monkeypatch):
    """A function that runs a benchmark on a few photographs and returns its page."""
    photos = tmp_path / 'photos'
    photos.mkdir()
    for i in range(8):
        Image.fromarray(photo).save(photos / f'{i}.jpg')
    monkeypatch.syspath_prepend(ROOT / 'benchmarks')
    monkeypatch.setattr(importlib.import_module('report'), 'PAGES', tmp_path / 'pages')

    def run(name, *arguments, **replaced):
        module = importlib.import_module(name)
        for attribute, value in replaced.items():
            monkeypatch.setattr(module, attribute, value)
        monkeypatch.setattr(
            sys, 'argv', [name, '--photos', str(photos), '--rounds', '1', *map(str, arguments)]
        )
        module.main()
        page = (tmp_path / 'pages' / f'{name}.md').read_text()
        assert '--photos photographs' in page and str(tmp_path) not in page
        pictures = list((tmp_path / 'pages').glob('*.png'))
        assert pictures and all(f'({picture.name})' in page for picture in pictures)
        return page

    return run


def test_step(run):
    page = run('step', SETTINGS={'tiny': (18, 32, 2, 1, 1.25)})
    assert page.count('| tiny |') == 4


def test_loss_memory(run):
    page = run('loss_memory', '--queries', 64, '--keys', 256, '--dim', 8)
    assert '| tiled |' in page and '| matrix |' in page


def test_loader(run):
    page = run('loader', '--images', 4)
    assert 'lightly' in page and 'without the extra speed' in page and 'Workers' in page


@pytest.mark.long
def test_peers(run):
    # Each case is a process of its own that imports for ten seconds: one of the five.
    name = 'lightly: MoCo v2'
    cases = {name: importlib.import_module('peers').CASES[name]}
    page = run('peers', '--images', 4, '--batch', 4, '--size', 32, CASES=cases)
    assert f'| {name} |' in page


@pytest.mark.parametrize(
    'case',
    ['plrc_plugin: MoCo v2', 'lightly: DenseCL', 'plrc_plugin: DenseCL', 'plrc_plugin: PLRC'],
)
def test_further_peers(run, case, capsys):
    with pytest.raises(FileNotFoundError):  # a case prints its figures instead of writing a page
        run('peers', '--images', 4, '--batch', 4, '--size', 32, '--case', case)
    assert capsys.readouterr().out.startswith('[')


@pytest.mark.long
def test_startup(run):
    page = run('startup', '--folders', 2, '--per-folder', 6000, '--epochs', 1, '--read', 4)
    assert '12,000 file names' in page and '| listed anew |' in page


@pytest.mark.long
def test_growth(run):
    page = run(
        'growth',
        '--batches',
        2,
        3,
        '--points',
        16,
        32,
        '--crops',
        32,
        64,
        '--images',
        4,
        '--processes',
        1,
        2,
    )
    assert '| Processes, 4 images each |' in page


def test_sources(run):
    page = run('sources', '--images', 4, '--size', 32, '--no-store')
    assert '| folder |' in page and '| tar, 8 shards |' in page


@pytest.mark.long
def test_scale(run):
    page = run('scale', '--entries', 12000)
    assert '| 12,000 tar members | made |' in page
    assert '| 12,000 tar members | remembered |' in page


def test_rasters(run):
    page = run('rasters', '--images', 2, '--size', 32)
    assert '| 8 bits, 3 bands: JPEG, without channels |' in page
    assert '| 16 bits, 5 bands: TIFF, tiles, deflated |' in page
