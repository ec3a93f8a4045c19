"""What the loop keeps of a long run."""

import pytest
from runs import make_images, tiny_config, train


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp('data') / 'images')


def test_history_of_scalars_stays_short(images, tmp_path, monkeypatch):
    monkeypatch.setattr('plrc_plugin.engine.loops.MIN_LOG_HISTORY', 3)
    runner = train(tiny_config(images, tmp_path))
    assert {len(b.data[0]) for b in runner.message_hub.log_scalars.values()} <= {5, 10}
