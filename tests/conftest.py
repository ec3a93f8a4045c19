"""Fixtures that several test modules share."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session', autouse=True)
def _one_thread():
    # Tiny networks gain nothing from a second thread, and on a busy machine wait for it.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope='session')
def real_data() -> Path:
    """The folder of real photographs; tests that ask for it skip where it is absent."""
    folder = Path(os.environ.get('PLRC_TEST_DATA', ROOT.parent / 'shared' / 'data'))
    if not folder.is_dir():
        pytest.skip('no real photographs: set PLRC_TEST_DATA to their folder')
    return folder


@pytest.fixture
def photo() -> np.ndarray:
    """A smooth colourful picture, (90, 120, 3) uint8."""
    y, x = np.mgrid[:90, :120] / 120
    rng = np.random.default_rng(0)
    waves = [np.sin(7 * (a * x + b * y) + c) for a, b, c in rng.uniform(-3, 3, (3, 3))]
    return (127 + 100 * np.stack(waves, -1)).astype(np.uint8)


@pytest.fixture
def image_folder(tmp_path, photo) -> Path:
    """Six PNG files, flat and nested."""
    for i, name in enumerate(
        ['a.png', 'b.png', 'n01/c.png', 'n01/d.png', 'n02/deep/e.png', 'f.PNG']
    ):
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(photo, 11 * i, axis=1)).save(path)
    return tmp_path / 'images'


@pytest.fixture(scope='session')
def trunk18():
    """A ResNet-18 trunk in which no tensor equals another or its initial value."""
    generator = torch.Generator().manual_seed(3)
    model = torchvision.models.resnet18()
    state = {key: value for key, value in model.state_dict().items() if not key.startswith('fc.')}
    return {
        key: torch.rand(value.shape, generator=generator) * 0.1
        + ('var' in key)
        + (0.5 if 'bn' in key and 'weight' in key else 0)
        if value.is_floating_point()
        else value + 7
        for key, value in state.items()
    }


@pytest.fixture
def plrc_checkpoint(tmp_path, trunk18):
    """The trunk as pre-training saves it, with a momentum twin that differs."""
    state = {f'backbone.{key}': value for key, value in trunk18.items()}
    state.update({f'momentum_backbone.{key}': value + 1 for key, value in trunk18.items()})
    state.update({'projector.0.weight': torch.ones(2, 2), 'queue.bank': torch.ones(4, 2)})
    path = tmp_path / 'plrc.pth'
    torch.save(dict(meta=dict(epoch=1), state_dict=state), path)
    return path


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    """A page of a headless Chromium, see helpers/browser.py; tests skip where there is none."""
    client = pytest.importorskip('browser', reason='no websocket-client: install the extra tests')
    if client.CHROMIUM is None:
        pytest.skip('no Chromium: on Debian, apt-get install chromium')
    with client.open_browser(tmp_path_factory.mktemp('profile')) as page:
        yield page
