"""The documentation quotes the code as it is."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
QUOTE = re.compile(r'`(plrc_plugin/[\w/]+\.py)`\n```python\n(.*?)```', re.S)


def quotes():
    return QUOTE.findall((ROOT / 'docs/equations.md').read_text())


def test_every_equation_has_its_lines():
    text = (ROOT / 'docs/equations.md').read_text()
    assert len(quotes()) >= 15
    for heading in ('Eq. 1', 'Eq. 2', 'Eq. 3', 'Eq. 4', 'Eq. 5 and 6'):
        section = text.split(f'## {heading}', 1)[1].split('\n## ', 1)[0]
        assert QUOTE.search(section), heading


@pytest.mark.parametrize('path, lines', quotes())
def test_quoted_lines_stand_in_the_file(path, lines):
    code = (ROOT / path).read_text().splitlines()
    for line in lines.splitlines():
        assert line in code, f'{path} has no line {line!r}'


@pytest.mark.parametrize(
    'page',
    sorted(
        str(p.relative_to(ROOT))
        for p in [*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md'), *ROOT.glob('studies/**/*.md')]
    ),
)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r'\]\(([^)#\s]+)[^)]*\)', text) + re.findall(r'src="([^"]+)"', text):
        if not target.startswith(('http://', 'https://', 'mailto:')):
            assert ((ROOT / page).parent / target).exists(), f'{page} links to {target}'
