"""A checkpoint that version 0.1.0 made, before the package was rearranged, resumes and loads."""

from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from PIL import Image

from plrc_plugin.checkpoints import damage_of, load_encoder, read_trunk

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / 'tests/data/made_by_0.1.0.pth'  # epoch 1 of 2 of what `config` describes


def config(folder: Path) -> Config:
    images = folder / 'images'
    images.mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        coarse = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
        coarse.resize((64, 48), Image.BICUBIC).save(images / f'{i}.png')
    cfg = Config.fromfile(ROOT / 'configs/plrc_in1k.py')
    data = 'train_dataloader.dataset.'
    cfg.merge_from_dict(
        {
            'model.backbone.depth': 18,
            'model.backbone.base_channels': 2,
            'model.backbone.strides': (1, 2, 2, 1),
            'model.embedding_dim': 4,
            'model.queue_size': 8,
            'model.warmup_epochs': 1,
            f'{data}data_root': str(images),
            f'{data}pipeline.0.size': 32,
            f'{data}pipeline.1.num_regions': 4,
            f'{data}pipeline.1.points_per_region': 2,
            f'{data}pipeline.1.resolution': 8,
            'train_dataloader.batch_size': 4,
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'train_dataloader.pin_memory': False,
            'train_cfg.max_epochs': 2,
            'work_dir': str(folder / 'work'),
            'load_from': str(CHECKPOINT),
            'resume': True,
            'visualizer.vis_backends': [dict(type='LocalVisBackend')],
        }
    )
    return cfg


def test_it_resumes(tmp_path):
    assert damage_of(str(CHECKPOINT)) is None
    runner = RUNNERS.build(config(tmp_path))
    runner.train()
    assert runner.iter == 4 and (tmp_path / 'work/epoch_2.pth').exists()
    state = torch.load(CHECKPOINT, weights_only=False)['state_dict']
    assert state.keys() == runner.model.state_dict().keys()
    assert int(runner.model.queue.bank_ptr) == (int(state['queue.bank_ptr']) + 8) % 8


def test_its_encoder_loads(tmp_path):
    trunk, prefix = read_trunk(str(CHECKPOINT))
    model = load_encoder(config(tmp_path), str(CHECKPOINT))
    assert prefix == 'backbone.'
    state = model.backbone.state_dict()
    for name, value in trunk.items():
        if not name.endswith('num_batches_tracked'):
            assert torch.equal(state[name], value)
