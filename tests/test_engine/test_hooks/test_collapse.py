"""Embeddings that collapse are noticed, and fresh ones are not taken for collapsed."""

import pytest
from runs import final, finish, make_images, start, tiny_config

from plrc_plugin.engine.hooks.collapse import CollapseHook
from plrc_plugin.errors import SettingsError


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp('data') / 'images')


@pytest.mark.parametrize('action', ['warn', 'stop'])
def test_collapse(action, images, tmp_path):
    cfg = tiny_config(images, tmp_path, **{'train_cfg.max_epochs': 1})
    cfg.custom_hooks.append(
        dict(type='plrc_plugin.CollapseHook', min_std=1.0, window=2, action=action)
    )
    error = finish(start(cfg))
    if action == 'stop':
        assert error.startswith('RuntimeError: the embeddings of different images have collapsed')
        assert '(iteration 2)' in error
    else:
        assert error == '' and final(tmp_path)
        log = next(tmp_path.rglob('*.log')).read_text()
        assert log.count('have collapsed') == 2  # iterations 2 and 4 of 5


def test_fresh_network_is_not_taken_for_collapsed(images, tmp_path):
    cfg = tiny_config(images, tmp_path, **{'train_cfg.max_epochs': 1})
    cfg.custom_hooks.append(dict(type='plrc_plugin.CollapseHook', window=1, action='stop'))
    assert finish(start(cfg)) == ''


@pytest.mark.parametrize('setting', [dict(min_std=2), dict(window=0), dict(action='cry')])
def test_collapse_settings(setting):
    with pytest.raises(SettingsError, match=f'CollapseHook: {next(iter(setting))}'):
        CollapseHook(**setting)
