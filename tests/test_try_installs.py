"""tools/try_installs.py takes README's lines as they are, and says why one fails."""

import runpy

import pytest
from conftest import ROOT

TOOL = runpy.run_path(str(ROOT / 'tools' / 'try_installs.py'))


def test_tries_the_lines_of_readme_and_one_that_leaves_torch_open():
    lines = TOOL['lines_of_readme']()
    readme = (ROOT / 'README.md').read_text()
    assert all(line in readme for line in lines[:-1]) and len(lines) == 3
    assert '.[onedl]' in lines[0] and 'torch==2.1.2' in lines[1] and '.[openmmlab]' in lines[2]
    assert 'torch==' not in lines[2]


@pytest.mark.parametrize(
    'output, reason',
    [
        (
            'ERROR: Cannot install torch==2.1.2\nERROR: ResolutionImpossible: see a page',
            'ERROR: Cannot install torch==2.1.2',
        ),
        ('Traceback\n  File "a.py"\nValueError: a|b\nnote', 'ValueError: a/b'),
        ('nothing of note\n\n', 'nothing of note'),
        ('', 'it says nothing'),
    ],
)
def test_the_reason_is_one_line(output, reason):
    assert TOOL['reason_in'](output) == reason
