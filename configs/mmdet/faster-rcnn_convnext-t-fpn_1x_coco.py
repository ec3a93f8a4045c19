"""Faster R-CNN ConvNeXt-T-FPN on COCO train2017, 1x, tested on val2017. No row of the paper.

mmdet's config with the trunk of configs/plrc_convnext_tiny.py, from which every tensor comes, and
AdamW whose rate falls towards the stem.
Cost: 12 epochs of COCO, batch 16.

  mim train plrc_plugin configs/mmdet/faster-rcnn_convnext-t-fpn_1x_coco.py \
      --cfg-options pretrained=<checkpoint>
"""

_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
    '../_base_/transfer.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='plrc_plugin.TimmTrunk',
        name='convnext_tiny',
        out_indices=(0, 1, 2, 3),
        drop_path=0.1,
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='plrc_plugin.LayerwiseRates',
    paramwise_cfg=dict(layer_decay=0.8, norm_decay_mult=0, bias_decay_mult=0),
)
auto_scale_lr = dict(enable=True)
