"""Configs of other trunks train, resume bit for bit, export and return."""

import pytest
import torch
from runs import assert_same_run, final, finish, make_images, start, tiny_config

from plrc_plugin.checkpoints.export import export_trunk
from plrc_plugin.checkpoints.trunk import read_trunk

SMALL = {
    'plrc_vit_small.py': {
        'model.backbone.embed_dim': 24,
        'model.backbone.depth': 2,
        'model.backbone.num_heads': 3,
    },
    'plrc_convnext_tiny.py': {
        'model.backbone.dims': (8, 8, 16, 16),
        'model.backbone.depths': (1, 1, 2, 1),
    },
    'plrc_efficientnet-lite0.py': {},
}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp('data') / 'images', count=12)


def config(name, images, work_dir, **more):
    sizes = {
        'train_dataloader.dataset.pipeline.0.size': 64,
        'default_hooks.checkpoint.by_epoch': False,
        'default_hooks.checkpoint.interval': 1,
    }
    cfg = tiny_config(images, work_dir, name, **{**sizes, **SMALL[name], **more})
    given = {key.rpartition('.')[2] for key in SMALL[name]} | {'type', 'name', 'output_stride'}
    for option in set(cfg.model.backbone) - given:  # of the tiny ResNet
        cfg.model.backbone.pop(option)
    return cfg


@pytest.mark.slow
@pytest.mark.parametrize('name', SMALL)
def test_trains_resumes_exports_and_returns(name, images, tmp_path):
    timm = pytest.importorskip('timm')
    assert finish(start(config(name, images, tmp_path / 'whole'))) == ''
    died = dict(type='DieOnceHook', rank=0, iteration=4)
    for expected in ('killed', ''):
        cfg = config(name, images, tmp_path / 'resumed', resume=expected == '')
        cfg.custom_hooks.append(died)
        assert finish(start(cfg)) == expected
    assert_same_run(tmp_path / 'resumed', tmp_path / 'whole')
    checkpoint = (tmp_path / 'whole' / 'last_checkpoint').read_text().strip()
    export_trunk(read_trunk(checkpoint)[0], tmp_path / 'timm.pth', 'timm')
    state = torch.load(tmp_path / 'timm.pth', weights_only=True)
    options = {
        k: v for k, v in cfg.model.backbone.items() if k not in ('type', 'name', 'output_stride')
    }
    model = timm.create_model(cfg.model.backbone.name, **options)
    lacking, strange = model.load_state_dict(state, strict=False)
    heads = ('head.fc', 'head.norm', 'head.weight', 'head.bias', 'classifier', 'conv_head', 'bn2')
    assert not strange and all(key.startswith(heads) for key in lacking)
    # Back again: both encoders of a new run start from the exported file.
    back = config(name, images, tmp_path / 'back', pretrained=str(tmp_path / 'timm.pth'))
    back.optim_wrapper.optimizer.lr = 1e-30
    back.train_cfg.max_epochs = 1
    assert finish(start(back)) == ''
    found = final(tmp_path / 'back')['model']
    for key, value in state.items():
        if 'running_' not in key and 'num_batches' not in key:
            for encoder in ('backbone', 'momentum_backbone'):
                assert torch.equal(found[f'{encoder}.{key}'], value), key
