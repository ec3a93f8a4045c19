"""FCN R50, stride 16, on VOC2012 segmentation, tested on val. No row of the paper.

Recipe: MoCo's (appendix A.4), but photographs are scaled by 0.5 to 2 from a short side of 512, as
mmseg does, where MoCo scales from their own size: 30k steps of 16 crops of 513, learning rate
0.003, a tenth of it after 70% and again after 90%. MoCo trains on the augmented set; with mmseg's
`aug` files:
  train_dataloader.dataset.ann_file=ImageSets/Segmentation/trainaug.txt
  train_dataloader.dataset.data_prefix.seg_map_path=SegmentationClassAug
Cost: 30,000 steps of 16 crops.

  mim train plrc_plugin configs/mmseg/fcn_r50-d16_30k_voc12-513x513.py \
      --cfg-options pretrained=<checkpoint>
"""

_base_ = '../_base_/transfer_fcn.py'

crop_size = (513, 513)
model = dict(data_preprocessor=dict(size=crop_size), decode_head=dict(num_classes=21))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
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
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='PascalVOCDataset',
        data_root='data/VOCdevkit/VOC2012',
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        ann_file='ImageSets/Segmentation/train.txt',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='PascalVOCDataset',
        data_root='data/VOCdevkit/VOC2012',
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        ann_file='ImageSets/Segmentation/val.txt',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(lr=0.003))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=30000, val_interval=10000)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=30000, milestones=[21000, 27000])
]
