"""Two iterations on photographs of further sources, strategies and baselines."""

import json
import math

import pytest
from conftest import ROOT
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

PLRC_TERMS = {'l_m', 'l_c', 'l_a'}


def link_photographs(source, folder):
    """Sixteen of them, and beside each a label map of three bands."""
    folder.mkdir()
    photographs = sorted(source.rglob('*.jpg'))[:16]
    for i, path in enumerate(photographs):
        (folder / f'{i}.jpg').symlink_to(path)
        with Image.open(path) as image:
            width, height = image.size
        bands = Image.new('L', (width, height))
        for n in (1, 2):
            bands.paste(n, (width * n // 3, 0, width, height))
        bands.save(folder / f'{i}_bands.png')


@pytest.mark.real_data
@pytest.mark.parametrize(
    'name, options, terms',
    [
        (
            'plrc',
            dict(regions=dict(type='SegmenterRegions', method='slic', long_side=128)),
            PLRC_TERMS,
        ),
        ('plrc', dict(regions=dict(type='LabelFiles', suffix='_bands.png')), PLRC_TERMS),
        ('plrc', {'model.strategy': 2}, PLRC_TERMS),
        ('plrc', {'model.strategy': 3}, PLRC_TERMS),
        ('plrc_without_la', {}, {'l_m', 'l_c'}),
        ('regioncontrast', {}, {'l_m', 'l_c'}),
        ('densecl', {}, {'l_m', 'l_dense'}),
        ('mocov2', {}, {'l_m'}),
        ('pixpro', {'model.hidden_dim': 16}, {'l_pix'}),
    ],
    ids=[
        'slic',
        'label files',
        'strategy 2',
        'strategy 3',
        'without L_a',
        'regions pooled',
        'DenseCL',
        'MoCo v2',
        'PixPro',
    ],
)
def test_two_iterations_on_photographs(name, options, terms, real_data, tmp_path):
    link_photographs(real_data / 'pretrain', tmp_path / 'images')
    cfg = Config.fromfile(ROOT / f'configs/{name}_in1k.py')
    cfg.merge_from_dict(
        {
            'model.backbone.depth': 18,
            'model.backbone.base_channels': 4,
            'train_dataloader.dataset.data_root': str(tmp_path / 'images'),
            'train_dataloader.dataset.exclude': '*_bands.png',
            'train_dataloader.dataset.pipeline.0.size': 64,
            'train_dataloader.batch_size': 8,
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'train_dataloader.pin_memory': False,
            'train_cfg.max_epochs': 1,
            'default_hooks.logger.interval': 1,
        }
    )
    if name != 'pixpro':
        cfg.model.queue_size = 32
    if name == 'plrc':
        cfg.model.warmup_epochs = 0
    if 'regions' in options:
        cfg.train_dataloader.dataset.pipeline[1].regions = options['regions']
    else:
        cfg.merge_from_dict(options)
    cfg.work_dir = cfg.experiment_name = str(tmp_path / 'run')
    Runner.from_cfg(cfg).train()
    log = [
        json.loads(line)
        for line in next((tmp_path / 'run').rglob('scalars.json')).read_text().splitlines()
    ]
    assert len(log) == 2
    for entry in log:
        assert {key for key in entry if key.startswith('l_')} == terms
        assert all(math.isfinite(value) for value in entry.values())
        assert all(entry[term] > 0 for term in terms - {'l_pix'})  # minus a cosine
