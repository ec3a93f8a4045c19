"""The three protocols from a PLRC checkpoint to the end of the evaluation on real photographs.

The configs as they are, but for schedule, trunk and image scale (and VOC2007 trainval, which the
folder of photographs lacks: VOC2012 stands in for it).
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from plrc_plugin.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
FEW_STEPS = [
    'train_cfg.max_iters=3',
    'train_cfg.val_interval=3',
    'default_hooks.logger.interval=1',
    *(
        f'{part}_dataloader.{setting}'
        for part in ('train', 'val')
        for setting in ('num_workers=0', 'persistent_workers=False')
    ),
]
R18_C4 = [
    'model.backbone.depth=18',
    'model.rpn_head.in_channels=256',
    'model.rpn_head.feat_channels=64',
    'model.roi_head.shared_head.depth=18',
    'model.roi_head.bbox_roi_extractor.out_channels=256',
    'model.roi_head.bbox_head.in_channels=512',
    'model.train_cfg.rcnn.sampler.num=32',
    'model.train_cfg.rpn_proposal.max_per_img=50',
    'model.test_cfg.rpn.max_per_img=4',
    'custom_hooks.1.num_iters=2',
]


@pytest.fixture
def plrc_r18(tmp_path):
    """What pre-training would save for a ResNet-18."""
    config = Config.fromfile(ROOT / 'configs' / 'plrc_in1k.py')
    config.merge_from_dict({'model.backbone.depth': 18, 'model.queue_size': 256})
    torch.save(dict(state_dict=MODELS.build(config.model).state_dict()), tmp_path / 'plrc.pth')
    return tmp_path / 'plrc.pth'


def train(config, checkpoint, data, cwd, *options):
    """Run tools/train.py where ``data/`` is the photographs; its output and logged scalars."""
    pytest.importorskip('mmdet.models' if 'mmdet' in config else 'mmseg.models')
    (cwd / 'data').symlink_to(data)
    done = subprocess.run(
        [
            sys.executable,
            ROOT / 'tools' / 'train.py',
            ROOT / 'configs' / config,
            '--work-dir',
            'run',
            '--cfg-options',
            f'pretrained={checkpoint}',
            *FEW_STEPS,
            *options,
        ],
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-3000:]
    assert (cwd / 'run' / 'iter_3.pth').is_file()
    log = next((cwd / 'run').glob('*/vis_data/scalars.json'))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    losses = [line['loss'] for line in lines if 'loss' in line]
    assert len(losses) == 3 and all(0 < loss < 100 for loss in losses)
    return output, lines[-1]


@pytest.mark.real_data
@pytest.mark.slow
def test_voc_detection(plrc_r18, real_data, tmp_path):
    datasets = 'train_dataloader.dataset.datasets'
    output, metrics = train(
        'mmdet/faster-rcnn_r50-c4_24k_voc0712.py',
        plrc_r18,
        real_data,
        tmp_path,
        *R18_C4,
        f'{datasets}.0.ann_file=VOC2012/ImageSets/Main/trainval.txt',
        f'{datasets}.0.data_prefix.sub_data_root=VOC2012/',
        *(f'{datasets}.{i}.pipeline.3.scales=[(192,96),(192,112)]' for i in (0, 1)),
        'val_dataloader.dataset.pipeline.1.scale=(192,96)',
    )
    assert 'backbone: 75 of 75 tensors loaded' in output
    assert 'roi_head.shared_head: 25 of 29 tensors loaded' in output
    assert all(0 <= metrics[f'voc/{name}'] <= 100 for name in ('AP', 'AP50', 'AP75'))
    assert 'Iter(val) [385/385]' in output


@pytest.mark.real_data
@pytest.mark.slow
def test_coco_instance_segmentation(plrc_r18, real_data, tmp_path):
    output, metrics = train(
        'mmdet/mask-rcnn_r50-c4_1x_coco.py',
        plrc_r18,
        real_data,
        tmp_path,
        *R18_C4,
        'model.roi_head.mask_head.in_channels=512',
        'train_dataloader.dataset.pipeline.2.scales=[(192,96),(192,112)]',
        'val_dataloader.dataset.pipeline.1.scale=(192,96)',
    )
    assert 'backbone: 75 of 75 tensors loaded' in output
    assert 'roi_head.shared_head: 25 of 29 tensors loaded' in output
    assert {'coco/bbox_mAP', 'coco/segm_mAP'} <= metrics.keys()
    assert 'Iter(val) [100/100]' in output


@pytest.mark.real_data
@pytest.mark.slow
def test_cityscapes_segmentation(plrc_r18, real_data, tmp_path):
    output, metrics = train(
        'mmseg/fcn_r50-d16_90k_cityscapes-769x769.py',
        plrc_r18,
        real_data,
        tmp_path,
        'model.backbone.depth=18',
        'model.decode_head.in_channels=512',
        'model.data_preprocessor.size=(129,129)',
        'train_dataloader.dataset.pipeline.2.scale=(256,128)',
        'train_dataloader.dataset.pipeline.3.crop_size=(129,129)',
    )
    assert 'backbone: 100 of 100 tensors loaded' in output
    assert 0 < metrics['mIoU'] < 100
    assert 'Iter(val) [34/34]' in output
