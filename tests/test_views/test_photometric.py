"""Photometric steps by config: their streams, and steps from outside."""

import numpy as np
import pytest
from PIL import Image

from plrc_plugin.errors import SettingsError
from plrc_plugin.randomness import SampleKey
from plrc_plugin.registry import AUGMENTATIONS
from plrc_plugin.views.photometric import build_steps
from plrc_plugin.views.two_views import TwoViews


@AUGMENTATIONS.register_module(force=True)
class Invert:
    """A step that only the loader can do."""

    def __init__(self, prob=0.5):
        self.prob = prob

    def draw(self, rng):
        return True if rng.random() < self.prob else None

    def apply(self, image, drawn):
        return 255 - image


@pytest.fixture
def path(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / 'a.png')
    return str(tmp_path / 'a.png')


def views(path, index=0, **settings):
    transform = TwoViews(size=32, **settings)
    key = SampleKey(0, 0, index)
    return transform(dict(img_path=path, sample_key=key))['views']


def test_the_default_is_moco_v2s_recipe(path):
    spelled = [
        dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, prob=0.8),
        dict(type='Greyscale', prob=0.2),
        dict(type='GaussianBlur', sigma=(0.1, 2.0), prob=0.5),
    ]
    for i in range(20):
        for a, b in zip(views(path, i), views(path, i, photometric=spelled)):
            assert np.array_equal(a.pixels, b.pixels) and np.array_equal(a.affine, b.affine)


def test_a_step_more_leaves_the_others_draws(path):
    """Inverting last undoes itself, and the rest is as it was; crops stay in any case."""
    recipe = [dict(type='ColorJitter'), dict(type='GaussianBlur')]
    for i in range(10):
        plain = views(path, i, photometric=recipe)
        more = views(path, i, photometric=[*recipe, dict(type='Invert', prob=1)])
        none = views(path, i, photometric=[])
        for a, b, c in zip(plain, more, none):
            assert np.array_equal(a.pixels, 255 - b.pixels)
            assert np.array_equal(a.affine, b.affine) and np.array_equal(a.affine, c.affine)


def test_two_steps_of_a_type_draw_apart():
    names = list(build_steps([dict(type='Invert'), dict(type='Greyscale'), dict(type='Invert')]))
    assert names == ['Invert', 'Greyscale', 'Invert 2']


def test_a_step_that_needs_the_loader_is_said_before_the_run():
    with pytest.raises(SettingsError, match="where='device', and the step Invert has no coef"):
        TwoViews(photometric=[dict(type='Invert')], where='device')


class Wrong(Invert):
    def apply(self, image, drawn):
        return image / 2


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(photometric=[dict(type='Sharpen')]), 'each step must be a dict with a type of .*Inv'),
        (dict(photometric=['ColorJitter']), 'each step must be a dict'),
        (dict(photometric='solarise'), "must be 'moco_v2' or a list of steps"),
        (dict(photometric=[], jitter_prob=0.5), "jitter_prob: belongs to photometric='moco_v2'"),
        (dict(photometric=[dict(type='ColorJitter', hue=0.7)]), 'hue must be .* at most 0.5'),
        (dict(photometric=[dict(type='GaussianBlur', sigma=(2, 1))]), 'sigma must be 0 < low'),
        (dict(where='gpu'), "where must be 'loader' or 'device'"),
    ],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(SettingsError, match=message):
        TwoViews(**settings)


def test_what_is_no_image_is_refused(path, monkeypatch):
    monkeypatch.setitem(AUGMENTATIONS.module_dict, 'Wrong', Wrong)
    with pytest.raises(SettingsError, match=r'Wrong.apply must return a \(32, 32, 3\) uint8 image'):
        views(path, photometric=[dict(type='Wrong', prob=1)])


def test_two_classes_of_one_name_are_two_steps(monkeypatch):
    other = type('Invert', (Invert,), {})
    monkeypatch.setitem(AUGMENTATIONS.module_dict, 'Other', other)
    assert list(build_steps([dict(type='Invert'), dict(type='Other')])) == ['Invert', 'Invert 2']


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(photometric=[dict(type='ColorJitter', brightness=float('inf'))]), 'brightness must'),
        (dict(photometric=[dict(type='ColorJitter', strength=1)]), "photometric: .*'strength'"),
    ],
)
def test_strengths_without_bound_and_unknown_settings(settings, message):
    with pytest.raises(SettingsError, match=message):
        TwoViews(**settings)
