"""Short runs on other regions than the grid."""

import json

import numpy as np
import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.runner import Runner

from plrc_plugin.registry import REGIONS


def run(work_dir, folder, regions, **options):
    """Iterations' logged values, and the log's text."""
    cfg = Config.fromfile(ROOT / 'configs/plrc_in1k.py')
    cfg.train_dataloader.dataset.pipeline[1].regions = regions
    cfg.merge_from_dict(
        {
            'model.backbone.depth': 18,
            'model.backbone.base_channels': 4,
            'model.queue_size': 32,
            'model.warmup_epochs': 0,
            'train_dataloader.dataset.data_root': str(folder),
            'train_dataloader.dataset.pipeline.0.size': 64,
            'train_dataloader.batch_size': 8,
            'train_dataloader.num_workers': 1,
            'train_dataloader.pin_memory': False,
            'train_dataloader.dataset.indices': 24,
            'train_cfg.max_epochs': 1,
            'default_hooks.logger.interval': 1,
            **options,
        }
    )
    cfg.work_dir = cfg.experiment_name = str(work_dir)
    Runner.from_cfg(cfg).train()
    scalars = next(work_dir.rglob('scalars.json')).read_text().splitlines()
    return [json.loads(line) for line in scalars], next(work_dir.rglob('*.log')).read_text()


@pytest.mark.real_data
@pytest.mark.parametrize('kind', ['mask', 'box'])
def test_ground_truth_of_photographs(kind, real_data, tmp_path):
    log, text = run(
        tmp_path,
        real_data / 'coco/train2017',
        dict(
            type='CocoRegions',
            kind=kind,
            ann_file=str(real_data / 'coco/annotations/instances_train2017.json'),
        ),
    )
    assert len(log) == 3 and 'no regions for' not in text
    assert all(entry['l_c'] > 0 and entry['l_a'] > 0 for entry in log)
    assert np.mean([entry['no_common_region'] for entry in log]) < 0.6


@pytest.mark.real_data
def test_segments_of_photographs(real_data, tmp_path):
    cache = tmp_path / 'cache'
    regions = dict(type='SegmenterRegions', cache_dir=str(cache))
    first, _ = run(tmp_path / 'first', real_data / 'pretrain', regions)
    assert len(list(cache.rglob('*.png'))) == 24
    cached, _ = run(tmp_path / 'cached', real_data / 'pretrain', regions)
    assert len(first) == 3 and len(list(cache.rglob('*.png'))) == 24
    for a, b in zip(first, cached):
        assert a['l_c'] == b['l_c'] > 0 and a['l_a'] == b['l_a'] > 0
        assert a['no_common_region'] < 0.5


def test_the_source_of_the_documentation(image_folder, tmp_path, monkeypatch):
    text = (ROOT / 'docs/regions.md').read_text()
    code = text.split('# my_regions.py\n', 1)[1].split('```', 1)[0]
    assert len(code.splitlines()) < 40
    (tmp_path / 'my_regions.py').write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    REGIONS.module_dict.pop('BrightAndDark', None)  # of a test of the page
    import my_regions  # noqa: F401

    source = REGIONS.build(dict(type='BrightAndDark'))
    labels = torch.from_numpy(source(dict(img_path=str(image_folder / 'a.png'))))
    assert labels.shape == (90, 120) and labels.unique().tolist() == [0, 1]
