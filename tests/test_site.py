"""The site builds without a warning. Its libraries are those of requirements/docs.txt."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    for name in ('sphinx', 'myst_parser', 'furo', 'sphinx_copybutton', 'latex2mathml'):
        pytest.importorskip(name, reason='make docs installs it')
    done = subprocess.run(
        [sys.executable, '-m', 'sphinx', '-W', '--keep-going', '-q', ROOT / 'docs', tmp_path],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for page in ('index', 'start', 'api', 'pytorch', 'study_photographs'):
        assert (tmp_path / f'{page}.html').exists()
    for page in tmp_path.rglob('*.html'):
        for address in re.findall(r'<img[^>]* src="([^":]+)"', page.read_text()):
            assert (page.parent / address).is_file(), f'{page.name} shows no {address}'
    assert 'point_region_contrast' in (tmp_path / 'api.html').read_text()
