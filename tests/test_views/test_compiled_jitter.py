"""The jitter that numba compiles has the bytes of the one that OpenCV computes."""

import numpy as np
import pytest
import torch

from plrc_plugin.views import augmentation as aug
from plrc_plugin.views import device_augmentation as device

compiled = pytest.importorskip('plrc_plugin.views.compiled_jitter')  # numba: extra 'speed', 'tests'


@pytest.fixture(scope='module')
def colours():
    """Random ones, of them 60,000 of few levels and 256 greys; in no multiple of a block."""
    rng = np.random.default_rng(0)
    greys = np.arange(256).repeat(3).reshape(-1, 3)
    few = rng.choice([0, 1, 2, 127, 128, 253, 254, 255], (60_000, 3))
    levels = np.concatenate([rng.integers(0, 256, (90_000, 3)), few, greys])
    return levels.astype(np.uint8).reshape(-1, 8, 3)


def both_ways(image, jitter, monkeypatch):
    got = aug.color_jitter(image, jitter)
    with monkeypatch.context() as patch:
        patch.setattr(aug, 'compiled_jitter', None)
        return got, aug.color_jitter(image, jitter)


@pytest.mark.parametrize('seed', range(25))
def test_same_bytes_in_any_order(colours, monkeypatch, seed):
    rng = np.random.default_rng(seed)
    names = rng.permutation(['brightness', 'contrast', 'saturation', 'hue'])[: rng.integers(1, 5)]
    jitter = [(x, rng.uniform(-0.5, 0.5) if x == 'hue' else rng.uniform(0, 2)) for x in names]
    before = colours.copy()
    got, expected = both_ways(colours, jitter, monkeypatch)
    assert got.dtype == np.uint8 and np.array_equal(got, expected)
    assert np.array_equal(colours, before)


@pytest.mark.parametrize('steps', [0, 1, 128, 255])
def test_same_hues_of_all_pairs_of_channels(monkeypatch, steps):
    """Of every colour whose third channel is none, half or all."""
    x, y = (side.ravel() for side in np.mgrid[:256, :256])
    for third in (0, 127, 255):
        for order in ([0, 1, 2], [1, 2, 0], [2, 0, 1]):
            image = np.stack([x, y, np.full_like(x, third)], -1)[:, order].astype(np.uint8)[None]
            got, expected = both_ways(image, [('hue', (steps + 0.5) / 255)], monkeypatch)
            assert np.array_equal(got, expected)


def test_no_turn_leaves_saturated_colours_and_the_device_agrees(colours):
    turned = aug.adjust_hue(colours, 0.07)
    images = torch.from_numpy(colours).permute(2, 0, 1)[None].float()
    coefficients = torch.from_numpy(device.jitter_coefficients([('hue', 0.07)]))[None]
    on_device = device.jitter(images, coefficients)[0].permute(1, 2, 0).numpy()
    assert np.abs(on_device - turned).max() <= 7
    assert (on_device == turned).mean() > 0.99
    still = np.abs(aug.adjust_hue(colours, 0).astype(int) - colours)
    assert still.max() <= 4 and still.mean() < 0.5
