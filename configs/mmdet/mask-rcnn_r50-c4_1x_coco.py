"""Mask R-CNN R50-C4 on COCO train2017, 1x, tested on val2017 (the paper's section 4.2).

Rows to reproduce, box AP / AP50 / AP75:
  PLRC, ImageNet-1k, 200 epochs   40.7 / 60.4 / 44.7
  PLRC, COCO, 800 epochs          39.8 / 59.6 / 43.7
The paper's mask columns mix C4 and FPN results, and its rows from scratch swap box and mask: no
mask number is quoted here as one to reproduce.
Recipe: MoCo's for detectron2. docs/transfer.md lists what differs between the frameworks.
Cost: 90,000 steps of 16 images, short side 640 to 800.

  mim train plrc_plugin configs/mmdet/mask-rcnn_r50-c4_1x_coco.py \
      --cfg-options pretrained=<checkpoint>
"""

_base_ = ['../_base_/transfer_c4.py', 'mmdet::_base_/datasets/coco_instance.py']

model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(pad_mask=True),
    roi_head=dict(
        mask_roi_extractor=None,  # the box head's
        mask_head=dict(
            type='FCNMaskHead',
            num_convs=0,
            in_channels=2048,
            conv_out_channels=256,
            num_classes=80,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
        ),
    ),
    train_cfg=dict(rcnn=dict(mask_size=14)),
    test_cfg=dict(rcnn=dict(mask_thr_binary=0.5)),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='RandomChoiceResize',
        scales=[(1333, side) for side in range(640, 801, 32)],
        keep_ratio=True,
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    sampler=dict(type='InfiniteSampler', shuffle=True), dataset=dict(pipeline=train_pipeline)
)

train_cfg = dict(type='IterBasedTrainLoop', max_iters=90000, val_interval=30000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=90000, milestones=[60000, 80000]),
]
