"""The study's page holds the numbers of its probes."""

import importlib.util

from conftest import ROOT

STUDY = ROOT / 'studies' / 'starts'


def test_the_tables_are_those_of_the_probes():
    spec = importlib.util.spec_from_file_location('page', STUDY / 'page.py')
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    text = (STUDY / 'README.md').read_text()
    for name, lines in page.tables().items():
        assert f'<!-- {name} -->\n{lines}\n<!-- end -->' in text, name
        assert lines.count('\n') >= 2, name
