"""Faster R-CNN on photographs with the study's trunk: VOC2012 trainval, tested on VOC2007 test.

The C4 protocol made small: half-width ResNet-18, images within 320 x 240. The two sets have 1,443
and 385 images. Cost: 600 steps of 4 images. No row of the paper.

  mim train plrc_plugin studies/photographs/configs/mmdet/faster-rcnn_r18-c4_study_voc.py \
      --cfg-options pretrained=runs/plrc/seed0/epoch_13.pth
"""

_base_ = '../../../../configs/mmdet/faster-rcnn_r18-c4_demo_scenes.py'

model = dict(
    roi_head=dict(bbox_head=dict(num_classes=20)), test_cfg=dict(rpn=dict(max_per_img=100))
)

data_root = '{{$PLRC_VOC_ROOT:data/VOCdevkit}}/'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='VOCDataset',
        data_root=data_root,
        ann_file='VOC2012/ImageSets/Main/trainval.txt',
        data_prefix=dict(sub_data_root='VOC2012/'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='plrc_plugin.TrainOnDifficult'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='Resize', scale=(320, 240), keep_ratio=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='VOCDataset',
        data_root=data_root,
        ann_file='VOC2007/ImageSets/Main/test.txt',
        data_prefix=dict(sub_data_root='VOC2007/'),
        test_mode=True,
        pipeline={{_base_.val_dataloader.dataset.pipeline}},
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='plrc_plugin.VOCAPMetric', eleven_points=True)
test_evaluator = val_evaluator

train_cfg = dict(max_iters=600, val_interval=600)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=50),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=600, milestones=[450, 550]),
]
