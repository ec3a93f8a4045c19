"""FCN on driving frames in the Cityscapes layout with the study's trunk: 92 to train, 34 to test.

The Cityscapes protocol made small: half-width ResNet-18, crops of 193. Cost: 400 steps of 4 crops.
No row of the paper.

  mim train plrc_plugin studies/photographs/configs/mmseg/fcn_r18_study_driving.py \
      --cfg-options pretrained=runs/plrc/seed0/epoch_13.pth
"""

_base_ = '../../../../configs/mmseg/fcn_r18_demo_scenes.py'

model = dict(decode_head=dict(num_classes=19))

data_root = '{{$PLRC_CITYSCAPES:data/cityscapes}}'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CityscapesDataset',
        data_root=data_root,
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='RandomResize', scale=(480, 360), ratio_range=(0.5, 1.5), keep_ratio=True),
            dict(type='RandomCrop', crop_size=(193, 193)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ],
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CityscapesDataset',
        data_root=data_root,
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        pipeline={{_base_.val_dataloader.dataset.pipeline}},
    )
)
test_dataloader = val_dataloader

train_cfg = dict(max_iters=400, val_interval=400)
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=400, milestones=[280, 360])
]
