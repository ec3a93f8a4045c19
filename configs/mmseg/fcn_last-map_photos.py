"""FCN on the last map of any trunk, for masks of your own in VOC's layout. No row of the paper.

`python -m plrc_plugin worth` writes such a config for your trunk and your labels and compares
starts with it (docs/worth.md); its classes, sizes and schedule stand in that one. Here they are a
ResNet-50 at stride 16 and 21 classes, the background among them.
Cost: that of the budget.

  mim train plrc_plugin configs/mmseg/fcn_last-map_photos.py \
      --cfg-options pretrained=<checkpoint>
"""

_base_ = '../_base_/transfer_fcn.py'

crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(_delete_=True, type='plrc_plugin.ResNet', depth=50, strides=(1, 2, 2, 1)),
    decode_head=dict(num_classes=21, align_corners=False),
)

dataset = dict(
    type='BaseSegDataset',
    data_root='{{$PLRC_LABELS:data/labels}}',
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
    img_suffix='.jpg',
    seg_map_suffix='.png',
)
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        ann_file='ImageSets/Segmentation/train_100.txt',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
            dict(type='RandomCrop', crop_size=crop_size),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ],
        **dataset,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        ann_file='ImageSets/Segmentation/test.txt',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(2048, 512), keep_ratio=True),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
        **dataset,
    ),
)
test_dataloader = val_dataloader

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-4, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0),
    clip_grad=dict(max_norm=10),
)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=3000, val_interval=3000)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=150),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=150, end=3000, eta_min=0),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=500, max_keep_ckpts=1))
