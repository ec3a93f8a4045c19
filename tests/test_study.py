"""The study's page says what its logs say."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / 'docs' / 'study'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('study_page', ROOT / 'tools' / 'study_page.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_on_the_page_are_those_of_the_logs(tool):
    page = (STUDY / 'README.md').read_text()
    assert tool.refresh(page, tool.blocks(STUDY)) == page


def test_every_method_has_seen_sixty_thousand_images(tool):
    rows = tool.read_probes(STUDY / 'probes')
    for method in set(tool.METHODS) - {'random'}:
        for _, seed, images, _, _ in tool.final(rows, method):
            assert images >= 60000
            log = tool.read_scalars(STUDY / 'runs' / f'{method}-seed{seed}.json')
            assert log[-1]['step'] * 32 >= 60000


def write(folder, name, results):
    numbers = {key: {'linear_seg/mIoU': value} for key, value in results.items()}
    (folder / f'{name}.json').write_text(json.dumps(dict(results=numbers)))


def test_means_gains_and_files(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, 'MEASURES', {'linear_seg/mIoU': ('mIoU', 1, 1)})
    write(tmp_path, 'r', {'random': 5.0})
    write(
        tmp_path, 'm', {'runs/mocov2/seed0/epoch_2.pth': 6.0, 'runs/mocov2/seed0/epoch_1.pth': 9.0}
    )
    write(tmp_path, 'p', {'runs/plrc/seed0/epoch_2.pth': 7.0, 'runs/plrc/seed1/epoch_2.pth': 9.0})
    rows = tool.read_probes(tmp_path)
    table = tool.probe_table(tool.of_methods(rows))
    assert '| random weights | 1 | 5.0 | [r.json](probes/r.json) |' in table
    assert '| MoCo v2 | 1 | 6.0 |' in table  # the last epoch alone
    assert '| PLRC | 2 | 8.0 ± 1.4 |' in table
    assert '| PLRC | 3.00 |' in tool.gain_table(rows)


def test_variations_are_compared_at_one_moment(tool, tmp_path):
    write(
        tmp_path,
        'p',
        {
            'runs/plrc/seed0/epoch_6.pth': 7.0,
            'runs/plrc/seed0/epoch_13.pth': 9.0,
            'runs/plrc/seed2/epoch_6.pth': 6.0,
            'runs/plrc_p1/seed2/epoch_2.pth': 5.0,
        },
    )
    write(tmp_path, 'l', {'runs/plrc_late/seed2/epoch_6.pth': 8.0})
    found = tool.of_variations(tool.read_probes(tmp_path))
    values = {label: [row[3]['linear_seg/mIoU'] for row in rows] for label, rows in found.items()}
    assert values == {tool.VARIATIONS['plrc']: [7.0, 6.0], tool.VARIATIONS['plrc_late']: [8.0]}


def test_a_page_without_its_block_is_an_error(tool):
    with pytest.raises(SystemExit, match='one block <!-- runs -->'):
        tool.refresh('nothing', dict(runs='table'))
