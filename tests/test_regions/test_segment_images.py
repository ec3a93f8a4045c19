"""tools/segment_images.py: the cache that training then finds."""

import importlib.util

import pytest
from conftest import ROOT
from mmengine.config import Config

from plrc_plugin.errors import SettingsError
from plrc_plugin.randomness import SampleKey
from plrc_plugin.regions.segmenter import SegmenterRegions
from plrc_plugin.registry import DATASETS

spec = importlib.util.spec_from_file_location('segment_images', ROOT / 'tools/segment_images.py')
segment_images = importlib.util.module_from_spec(spec)
spec.loader.exec_module(segment_images)


@pytest.fixture
def cfg(image_folder, tmp_path):
    cfg = Config.fromfile(ROOT / 'configs/plrc_in1k.py')
    cfg.train_dataloader.dataset.data_root = str(image_folder)
    cfg.train_dataloader.dataset.pipeline[0].size = 32
    cfg.train_dataloader.dataset.pipeline[1].regions = dict(
        type='SegmenterRegions', min_size=20, cache_dir=str(tmp_path / 'cache')
    )
    return cfg


def test_training_segments_nothing_any_more(cfg, image_folder, tmp_path, monkeypatch, capsys):
    (image_folder / 'broken.png').write_bytes(b'')
    segment_images.segment_all(cfg, workers=2)
    printed = capsys.readouterr().out
    assert 'skipped: ' in printed and 'broken.png: not an image' in printed
    assert '6 of 7 images segmented' in printed
    assert len(list((tmp_path / 'cache').rglob('*.png'))) == 6
    monkeypatch.setattr(SegmenterRegions, '_labels', None)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert all(len(dataset[SampleKey(0, 0, i)]['region_points']) == 2 for i in range(7))


def test_a_config_without_a_cache(cfg):
    cfg.train_dataloader.dataset.pipeline[1].regions.cache_dir = None
    with pytest.raises(SettingsError, match='no segmenter that keeps its segments: set regions='):
        segment_images.segment_all(cfg, workers=1)
    with pytest.raises(SettingsError, match='workers must be a positive integer'):
        segment_images.segment_all(cfg, workers=0)
