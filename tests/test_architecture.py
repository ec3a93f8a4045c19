"""The tree stands as docs/architecture.md draws it: no import runs up a floor, or in a circle."""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from conftest import ROOT

PAGE = (ROOT / 'docs' / 'architecture.md').read_text()
PACKAGE = ROOT / 'plrc_plugin'
# The table of floors, the lowest first: each names its modules in its first column.
FLOORS = [
    re.findall(r'`(\w+)`', row)
    for row in re.findall(
        r'^\| \d+ \| (.*?) \|', PAGE.split('## Floors')[1].split('\n## ')[0], re.M
    )
]
FLOOR_OF = {name: number for number, names in enumerate(FLOORS) for name in names}


def unit(module: str) -> str:
    """'models' of 'plrc_plugin.models.plrc': the folder or file right below the package."""
    return module.split('.')[1]


def imported(path: Path, root: Path) -> list[tuple[int, str]]:
    """(line, module) of each import of the package in a file, those inside functions too."""
    here = ('plrc_plugin', *path.relative_to(root).with_suffix('').parts)
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = '.'.join(here[: len(here) - node.level]) + '.' if node.level else ''
            module = (base + (node.module or '')).rstrip('.')
            # only `from plrc_plugin import models` names a module behind `import`
            found += [
                (node.lineno, f'{module}.{alias.name}' if module == 'plrc_plugin' else module)
                for alias in node.names
            ]
    return [(line, module) for line, module in found if module.startswith('plrc_plugin.')]


def imports_up(root: Path) -> list[str]:
    """Each import of a package in ``root`` that leads to a higher floor."""
    found = []
    for path in sorted(root.rglob('*.py')):
        here = unit('.'.join(('plrc_plugin', *path.relative_to(root).with_suffix('').parts)))
        for line, module in imported(path, root):
            if here != '__init__' and FLOOR_OF[unit(module)] > FLOOR_OF[here]:
                where = f'{path.relative_to(root)}:{line}'
                found.append(f'{where} (floor {FLOOR_OF[here]}) imports {module}')
    return found


def units() -> set[str]:
    modules = {p.stem for p in PACKAGE.glob('*.py')} | {
        p.parent.name for p in PACKAGE.glob('*/*.py')
    }
    return modules - {'__init__'}


def test_every_module_has_a_floor_and_every_floor_its_modules():
    assert units() == set(FLOOR_OF), 'the table under "Floors" in docs/architecture.md'
    assert len(FLOOR_OF) == sum(map(len, FLOORS))


def test_no_import_runs_up_a_floor():
    assert imports_up(PACKAGE) == []


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: set() for name in units()}
    for path in PACKAGE.rglob('*.py'):
        here = unit('.'.join(('plrc_plugin', *path.relative_to(PACKAGE).with_suffix('').parts)))
        if here != '__init__':
            graph[here] |= {unit(module) for _, module in imported(path, PACKAGE)} - {here}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f'imported in a circle: {" -> ".join(error.args[1])}')


def test_all_imports_are_absolute():
    for path in PACKAGE.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f'{path}:{node.lineno}'


@pytest.mark.parametrize(
    'line',
    [
        'from plrc_plugin.models.plrc import PLRC',
        'import plrc_plugin.models.plrc',
        'from plrc_plugin import models',
        'from ..models import plrc',
        'def f():\n    from plrc_plugin.engine import hooks',
    ],
)
@pytest.mark.faults
def test_an_import_up_is_noticed_however_it_is_written(line, tmp_path):
    (tmp_path / 'losses').mkdir()
    (tmp_path / 'losses' / 'new.py').write_text(
        f'import torch\nfrom plrc_plugin import errors\n{line}'
    )
    (found,) = imports_up(tmp_path)
    assert found.startswith('losses/new.py:')


def test_paths_that_the_page_names_exist():
    names = re.findall(r'`((?:plrc_plugin|tools|studies|tests|configs|docs)/[\w./-]*)`', PAGE)
    assert len(names) > 20
    for name in names:
        assert (ROOT / name).exists(), name


def test_the_page_lists_every_hook_and_which_are_on():
    table = PAGE.split('## Hooks of training')[1].split('\n## ')[0]
    on = {
        name: value.startswith('yes')
        for name, value in re.findall(r'^\| `(\w+)` \| (.*?) \|', table, re.M)
    }
    files = [p.read_text() for p in (PACKAGE / 'engine' / 'hooks').glob('*.py')]
    registered = {
        name
        for text in files
        for name in re.findall(r'@HOOKS\.register_module\(\)\nclass (\w+)', text)
    }
    runtime = (ROOT / 'configs/_base_/plrc_runtime.py').read_text()
    used = set(re.findall(r"type='plrc_plugin\.(\w+Hook)'", runtime))
    assert set(on) == registered
    assert {name for name, is_on in on.items() if is_on} == used
