"""FCN R50, stride 16, on Cityscapes train_fine, tested on val (the paper's section 4.2).

Rows to reproduce, mIoU:
  PLRC, ImageNet-1k, 200 epochs   77.0
  PLRC, COCO, 800 epochs          75.9
Recipe: MoCo's (appendix A.4): 90k steps of 16 crops of 769, scaled by 0.5 to 2 and flipped,
learning rate 0.01, a tenth of it after 70% and again after 90%; tested on whole images.
Cost: 90,000 steps of 16 crops.

  mim train plrc_plugin configs/mmseg/fcn_r50-d16_90k_cityscapes-769x769.py \
      --cfg-options pretrained=<checkpoint>
"""

_base_ = '../_base_/transfer_fcn.py'

crop_size = (769, 769)
model = dict(data_preprocessor=dict(size=crop_size), decode_head=dict(num_classes=19))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='CityscapesDataset',
        data_root='data/cityscapes/',
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CityscapesDataset',
        data_root='data/cityscapes/',
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

train_cfg = dict(type='IterBasedTrainLoop', max_iters=90000, val_interval=30000)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=90000, milestones=[63000, 81000])
]
