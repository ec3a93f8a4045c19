"""FCN on images that are not 8-bit RGB, from a trunk of configs/plrc_rasters.py.

LoadRaster reads images as the run did that ``like`` names: a work dir, a checkpoint or an export.
Folders, classes and the number of channels are yours to set, here or with --cfg-options. Reproduces
no row of the paper. Cost: 10,000 steps of 8 crops, an hour on a GPU.

  export PLRC_RUN=work_dirs/plrc_rasters PLRC_SEG_ROOT=/path/to/labelled/images
  mim train plrc_plugin configs/mmseg/fcn_r50_rasters.py --cfg-options pretrained=$PLRC_RUN/<file>
"""

_base_ = '../_base_/transfer_fcn.py'

channels = 4
crop_size = (512, 512)
load = dict(type='plrc_plugin.LoadRaster', like='{{$PLRC_RUN:work_dirs/plrc_rasters}}')
model = dict(
    # For every channel the averages of ImageNet's three, as pre-training takes them.
    data_preprocessor=dict(
        mean=[114.495],
        std=[57.63],
        bgr_to_rgb=False,
        size=crop_size,
    ),
    backbone=dict(in_channels=channels),
    decode_head=dict(num_classes=2),
)

dataset = dict(
    type='BaseSegDataset',
    data_root='{{$PLRC_SEG_ROOT:data/rasters}}',
    img_suffix='.tif',
    seg_map_suffix='.png',
    metainfo=dict(classes=('background', 'object'), palette=[[0, 0, 0], [220, 20, 60]]),
)
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        data_prefix=dict(img_path='train/images', seg_map_path='train/masks'),
        pipeline=[
            load,
            dict(type='LoadAnnotations'),
            dict(type='RandomResize', scale=(512, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
            dict(type='RandomCrop', crop_size=crop_size),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ],
        **dataset,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        data_prefix=dict(img_path='val/images', seg_map_path='val/masks'),
        pipeline=[load, dict(type='LoadAnnotations'), dict(type='PackSegInputs')],
        **dataset,
    ),
)
test_dataloader = val_dataloader

auto_scale_lr = dict(base_batch_size=8)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=10000, val_interval=1000)
param_scheduler = [dict(type='PolyLR', by_epoch=False, begin=0, end=10000, power=0.9, eta_min=1e-4)]
# Pictures of other channels than three cannot be drawn.
default_hooks = dict(visualization=dict(draw=False))
