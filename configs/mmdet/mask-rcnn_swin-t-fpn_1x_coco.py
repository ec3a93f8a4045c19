"""Mask R-CNN Swin-T-FPN on COCO train2017, 1x, tested on val2017. No row of the paper.

The trunk is mmdet's, pre-trained with model.backbone=dict(type='mmdet.SwinTransformer',
out_indices=(3,)): see docs/options.md. The norms of its first three maps, which only the detector
has, stay new and are listed.
Cost: 12 epochs of COCO, batch 16.

  mim train plrc_plugin configs/mmdet/mask-rcnn_swin-t-fpn_1x_coco.py \
      --cfg-options pretrained=<checkpoint>
"""

_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_instance.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
    '../_base_/transfer.py',
]

model = dict(
    backbone=dict(
        _delete_=True, type='SwinTransformer', out_indices=(0, 1, 2, 3), drop_path_rate=0.2
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0,
        custom_keys=dict(
            absolute_pos_embed=dict(decay_mult=0), relative_position_bias_table=dict(decay_mult=0)
        ),
    ),
)
auto_scale_lr = dict(enable=True)
