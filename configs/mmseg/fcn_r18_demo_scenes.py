"""FCN on the generated scenes with the demo's trunk, for `make demo-transfer`.

The Cityscapes protocol made small: half-width ResNet-18, scenes of up to 320 x 240, background
and 8 classes. Cost: 500 steps of 4 crops, minutes on a CPU. No row of the paper.

  mim train plrc_plugin configs/mmseg/fcn_r18_demo_scenes.py \
      --cfg-options pretrained=work_dirs/plrc_demo/<checkpoint>
"""

_base_ = '../_base_/transfer_fcn.py'

crop_size = (193, 193)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(depth=18, stem_channels=32, base_channels=32),
    decode_head=dict(in_channels=256, channels=64, num_classes=9),
)

dataset = dict(
    type='BaseSegDataset',
    data_root='{{$PLRC_SCENES:data/scenes}}',
    img_suffix='.jpg',
    seg_map_suffix='.png',
    metainfo=dict(
        classes=(
            'background',
            'person',
            'cat',
            'cup',
            'helmet',
            'shuttle',
            'camera',
            'horse',
            'retina',
        ),
        palette=[
            [0, 0, 0],
            [220, 20, 60],
            [250, 170, 30],
            [119, 11, 32],
            [0, 0, 230],
            [106, 0, 228],
            [0, 60, 100],
            [165, 42, 42],
            [0, 226, 252],
        ],
    ),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        data_prefix=dict(img_path='train', seg_map_path='semantic/train'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='RandomResize', scale=(320, 240), ratio_range=(0.8, 1.25), keep_ratio=True),
            dict(type='RandomCrop', crop_size=crop_size),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ],
        **dataset,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        data_prefix=dict(img_path='val', seg_map_path='semantic/val'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
        **dataset,
    ),
)
test_dataloader = val_dataloader

auto_scale_lr = dict(base_batch_size=4)
optim_wrapper = dict(optimizer=dict(lr=0.05))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=500, val_interval=500)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=500, milestones=[350, 450])
]
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(interval=100, max_keep_ckpts=1),
    visualization=dict(draw=True, interval=20),
)
