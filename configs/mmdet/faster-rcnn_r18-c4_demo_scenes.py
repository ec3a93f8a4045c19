"""Faster R-CNN on the generated scenes with the demo's trunk, for `make demo-transfer`.

The C4 protocol made small: half-width ResNet-18, scenes of up to 320 x 240, 8 classes.
Cost: 300 steps of 4 scenes, minutes on a CPU. No row of the paper.

  mim train plrc_plugin configs/mmdet/faster-rcnn_r18-c4_demo_scenes.py \
      --cfg-options pretrained=work_dirs/plrc_demo/<checkpoint>
"""

_base_ = '../_base_/transfer_c4.py'

model = dict(
    backbone=dict(depth=18, base_channels=32),
    rpn_head=dict(in_channels=128, feat_channels=128, anchor_generator=dict(scales=[2, 4, 8, 16])),
    roi_head=dict(
        shared_head=dict(depth=18, base_channels=32),
        bbox_roi_extractor=dict(roi_layer=dict(output_size=8), out_channels=128),
        bbox_head=dict(in_channels=256, roi_feat_size=4, num_classes=8),
    ),
    train_cfg=dict(rpn_proposal=dict(max_per_img=200), rcnn=dict(sampler=dict(num=32))),
    test_cfg=dict(rpn=dict(max_per_img=30)),
)

data_root = '{{$PLRC_SCENES:data/scenes}}/'
metainfo = dict(classes=('person', 'cat', 'cup', 'helmet', 'shuttle', 'camera', 'horse', 'retina'))
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='Resize', scale=(320, 240), keep_ratio=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(320, 240), keep_ratio=True),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(
                type='PackDetInputs',
                meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
            ),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='CocoMetric', ann_file=data_root + 'annotations/instances_val.json', metric='bbox'
)
test_evaluator = val_evaluator

custom_hooks = [
    dict(type='plrc_plugin.LoadTrunk'),
    dict(type='plrc_plugin.PreciseBN', num_iters=20),
]
optim_wrapper = dict(optimizer=dict(lr=0.02))
auto_scale_lr = dict(base_batch_size=4)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=300, val_interval=300)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=300, milestones=[220, 270]),
]
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(interval=100, max_keep_ckpts=1),
    visualization=dict(draw=True, interval=20),
)
