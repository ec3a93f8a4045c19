"""Projects of mmpretrain, mmdet and mmseg use the plug-in by ``custom_imports`` alone.

Their configs inherit from those of their library, and its own tools run them.
"""

import importlib.util
from pathlib import Path

import pytest
import torch
from neighbours import CLASSES, train_by

from plrc_plugin.checkpoints.export import export_trunk
from plrc_plugin.checkpoints.safe_reading import load_tensors
from plrc_plugin.checkpoints.trunk import read_trunk
from plrc_plugin.datasets.scenes.writing import make_scenes

PLUG_IN = """
custom_imports = dict(imports=['plrc_plugin'], allow_failed_imports=False)
custom_hooks = [dict(type='plrc_plugin.LoadTrunk')]
randomness = dict(seed=0)
"""

PRE_TRAINING = """
_base_ = ['mmpretrain::_base_/default_runtime.py']
custom_imports = dict(imports=['plrc_plugin'], allow_failed_imports=False)
model = dict(
    type='plrc_plugin.PLRC',
    backbone=dict(type='mmpretrain.ResNet', depth=18, out_indices=(3,), strides=(1, 2, 2, 1)),
    embedding_dim=16,
    queue_size=16,
    warmup_epochs=0,
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='plrc_plugin.KeyedSampler', shuffle=True),
    collate_fn=dict(type='plrc_plugin.collate_views'),
    dataset=dict(
        type='plrc_plugin.ImageFolder',
        data_root=images,
        pipeline=[
            dict(type='plrc_plugin.TwoViews', size=48),
            dict(
                type='plrc_plugin.SampleRegionPoints',
                regions=dict(type='GridRegions', n=4),
                num_regions=4,
                points_per_region=4,
                resolution=12,
            ),
        ],
    ),
)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.03))
train_cfg = dict(by_epoch=True, max_epochs=1)
default_hooks = dict(logger=dict(interval=1))
"""

CLASSIFIER = """
_base_ = [
    'mmpretrain::_base_/models/resnet18.py',
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    'mmpretrain::_base_/default_runtime.py',
]
model = dict(head=dict(num_classes=2, topk=(1,)))
data_preprocessor = dict(num_classes=2)
data = dict(_delete_=True, type='CustomDataset', data_root=images)
loader = dict(batch_size=2, num_workers=0, persistent_workers=False)
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline, **data), **loader)
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline, **data), **loader)
val_evaluator = dict(topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1)
"""

DETECTOR = """
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_detection.py',
    'mmdet::_base_/default_runtime.py',
]
model = dict(
    backbone=dict(depth=18, frozen_stages=-1, norm_eval=False, init_cfg=None),
    neck=dict(in_channels=[64, 128, 256, 512]),
    roi_head=dict(bbox_head=dict(num_classes=8)),
    train_cfg=dict(rpn_proposal=dict(max_per_img=50)),
    test_cfg=dict(rpn=dict(max_per_img=20)),
)
small = dict(type='Resize', scale=(160, 120), keep_ratio=True)
train_pipeline = [*_base_.train_pipeline[:2], small, *_base_.train_pipeline[3:]]
test_pipeline = [_base_.test_pipeline[0], small, *_base_.test_pipeline[2:]]
data = dict(data_root=scenes, metainfo=dict(classes={classes}))
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    dataset=dict(
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        pipeline=train_pipeline,
        **data,
    ),
    **loader,
)
val_dataloader = dict(
    dataset=dict(
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        pipeline=test_pipeline,
        **data,
    ),
    **loader,
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='CocoMetric', ann_file=scenes + '/annotations/instances_val.json', metric='bbox'),
    dict(type='plrc_plugin.VOCAPMetric'),
]
test_evaluator = val_evaluator
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.001))
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=2), logger=dict(interval=1))
log_processor = dict(by_epoch=False)
"""

SEGMENTER = """
_base_ = [
    'mmseg::_base_/models/fcn_r50-d8.py',
    'mmseg::_base_/schedules/schedule_20k.py',
    'mmseg::_base_/default_runtime.py',
]
norm_cfg = dict(type='plrc_plugin.SyncBN', requires_grad=True)
crop = (65, 65)
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=crop),
    backbone=dict(type='ResNet', depth=18, norm_cfg=norm_cfg),
    decode_head=dict(in_channels=512, channels=32, num_classes=9, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=256, channels=32, num_classes=9, norm_cfg=norm_cfg),
)
data = dict(
    type='BaseSegDataset',
    data_root=scenes,
    img_suffix='.jpg',
    seg_map_suffix='.png',
    metainfo=dict(
        classes=('background', *{classes}), palette=[[20 * i, 0, 0] for i in range(9)]
    ),
)
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    batch_size=2,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        data_prefix=dict(img_path='train', seg_map_path='semantic/train'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='RandomCrop', crop_size=crop),
            dict(type='PackSegInputs'),
        ],
        **data,
    ),
    **loader,
)
val_dataloader = dict(
    batch_size=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        data_prefix=dict(img_path='val', seg_map_path='semantic/val'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(80, 60), keep_ratio=True),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
        **data,
    ),
    **loader,
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=2), logger=dict(interval=1))
"""


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('neighbours') / 'scenes'
    make_scenes(folder, num_train=4, num_val=2, size=(160, 120), progress=False)
    return folder


@pytest.mark.slow
def test_a_project_of_mmpretrain_pre_trains_and_classifies(image_folder, tmp_path):
    pytest.importorskip('mmpretrain.models')
    train_by('mmpretrain', tmp_path / 'pre_training', PRE_TRAINING, images=image_folder)
    checkpoint = tmp_path / 'pre_training/run/epoch_1.pth'
    state = load_tensors(checkpoint)['state_dict']
    assert int(state['queue.bank_ptr']) == 6  # three steps of two images
    assert not torch.equal(state['momentum_backbone.conv1.weight'], state['backbone.conv1.weight'])
    for label in ('cats', 'dogs'):
        (tmp_path / 'labelled' / label).mkdir(parents=True)
        for i, image in enumerate(sorted(image_folder.glob('*.*'))):
            (tmp_path / 'labelled' / label / f'{i}{image.suffix.lower()}').symlink_to(image)
    printed = train_by(
        'mmpretrain',
        tmp_path / 'classifier',
        PLUG_IN + CLASSIFIER,
        images=tmp_path / 'labelled',
        pretrained=checkpoint,
    )
    assert 'backbone: 100 of 100 tensors' in printed and 'accuracy/top1' in printed


def test_get_model_of_mmpretrain_takes_the_export(trunk18, tmp_path):
    mmpretrain = pytest.importorskip('mmpretrain')
    export_trunk(trunk18, tmp_path / 'out.pth', 'mmpretrain')
    model = mmpretrain.get_model('resnet18_8xb32_in1k', pretrained=str(tmp_path / 'out.pth'))
    state = model.backbone.state_dict()
    assert state.keys() == trunk18.keys()
    assert all(torch.equal(value, trunk18[name]) for name, value in state.items())
    initial = dict(type='Pretrained', checkpoint=str(tmp_path / 'out.pth'), prefix='backbone')
    backbone = mmpretrain.models.ResNet(depth=18, init_cfg=initial)
    backbone.init_weights()
    assert all(torch.equal(v, trunk18[name]) for name, v in backbone.state_dict().items())
    back, _ = read_trunk(tmp_path / 'out.pth')
    assert back.keys() == trunk18.keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    'library, config, loaded, measured',
    [
        ('mmdet', DETECTOR, 'backbone: 100 of 100', ('Evaluating bbox', 'voc/AP50: ')),
        ('mmseg', SEGMENTER, 'backbone: 100 of 100', ('mIoU: ',)),
    ],
    ids=['mmdet', 'mmseg'],
)
def test_a_repository_of_configs(
    library, config, loaded, measured, plrc_checkpoint, scenes, tmp_path
):
    pytest.importorskip(f'{library}.models')
    text = PLUG_IN + config.replace('{classes}', repr(CLASSES))
    if library == 'mmseg':  # OneDL's mmengine looks for mmseg:: under its other distribution's name
        configs = Path(importlib.util.find_spec('mmseg').origin).parent / '.mim/configs'
        text = text.replace('mmseg::', f'{configs}/')
    settings = dict(scenes=scenes, pretrained=plrc_checkpoint)
    printed = train_by(library, tmp_path / 'configs_of_mine', text, **settings)
    assert f'{loaded} tensors loaded' in printed
    assert all(name in printed for name in measured)
    assert (tmp_path / 'configs_of_mine/run/iter_2.pth').exists()
