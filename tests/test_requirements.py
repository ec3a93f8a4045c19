"""What `pip install` is asked for: each stack gets what it needs, and nothing that breaks it."""

import re
import runpy

import numpy as np
import pytest
import setuptools
import torch
from conftest import ROOT
from packaging.requirements import Requirement


@pytest.fixture
def extras(monkeypatch):
    """The requirements of each extra of setup.py, by their names."""
    told = {}
    monkeypatch.setattr(setuptools, 'setup', lambda **settings: told.update(settings))
    runpy.run_path(str(ROOT / 'setup.py'))
    return {
        name: {found.name: found for found in map(Requirement, lines)}
        for name, lines in told['extras_require'].items()
    }


@pytest.mark.stack
def test_arrays_become_tensors_here():
    """They do not where pip has put numpy 2 beside a torch that was built before it."""
    assert torch.from_numpy(np.ones(2)).sum() == 2


@pytest.mark.stack
@pytest.mark.parametrize('python', ['3.9', '3.10', '3.11', '3.12'])
def test_openmmlabs_own_packages_come_with_numpy_1(python, extras):
    numpy = extras['openmmlab']['numpy']
    assert numpy.marker is None or numpy.marker.evaluate({'python_version': python})
    assert numpy.specifier.contains('1.26.4') and not numpy.specifier.contains('2.0.0')
    assert not extras['openmmlab']['setuptools'].specifier.contains('81.0.0')  # pkg_resources


@pytest.mark.stack
def test_mmseg_comes_with_what_it_imports(extras):
    assert {'ftfy', 'regex'} <= extras['openmmlab-seg'].keys()


@pytest.mark.stack
@pytest.mark.parametrize(
    'pins, names',
    [
        ('constraints.txt', ['onedl', 'onedl-det', 'onedl-seg', 'onedl-pretrain', 'tests']),
        (
            'constraints-openmmlab.txt',
            ['openmmlab', 'openmmlab-det', 'openmmlab-seg', 'openmmlab-pretrain', 'tests'],
        ),
    ],
)
def test_the_tested_sets_are_within_the_extras(pins, names, extras):
    text = (ROOT / 'requirements' / pins).read_text()
    pinned = {
        re.sub(r'[-_.]+', '-', name).lower(): version
        for name, version in re.findall(r'^([\w.-]+)==(\S+)$', text, re.MULTILINE)
    }
    for extra in names:
        for name, requirement in extras[extra].items():
            version = pinned[re.sub(r'[-_.]+', '-', name).lower()]
            assert requirement.specifier.contains(version), f'{extra}: {requirement}, {version}'
