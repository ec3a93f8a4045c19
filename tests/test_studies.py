"""Each study stands outside the package, and its page says what its logs say."""

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / 'studies' / 'photographs'
FORWARDERS = [p for p in (ROOT / 'configs').rglob('*.py') if '/studies/' in p.read_text()]


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('study_page', STUDY / 'page.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('path', FORWARDERS, ids=lambda path: path.stem)
def test_names_of_before_lead_to_the_configs(path):
    def settings(file):
        return Config.fromfile(file, import_custom_modules=False).pretty_text

    of_now = next((STUDY / 'configs').rglob(path.name))
    assert settings(path) == settings(of_now)
    assert len(path.read_text().splitlines()) == 2  # nothing is set at the old place


def test_every_config_of_the_study_has_its_old_name():
    names = {p.name for p in (STUDY / 'configs').rglob('*.py')}
    assert {p.name for p in FORWARDERS} == names and len(names) == 14


def test_the_package_knows_no_study():
    for path in (ROOT / 'plrc_plugin').rglob('*.py'):
        assert 'studies' not in path.read_text(), path


def test_a_wheel_holds_configs_and_types_but_no_study(tmp_path):
    pytest.importorskip('setuptools')
    command = [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation']
    subprocess.run([*command, '-w', tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob('*.whl')
    names = zipfile.ZipFile(wheel).namelist()
    assert 'plrc_plugin/py.typed' in names and 'plrc_plugin/.mim/configs/plrc_in1k.py' in names
    assert not [name for name in names if 'stud' in name or name.startswith('tests/')]


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
