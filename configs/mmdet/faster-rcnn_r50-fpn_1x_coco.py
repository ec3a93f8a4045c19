"""Faster R-CNN R50-FPN on COCO train2017, 1x, tested on val2017. No row of the paper.

mmdet's config with a self-supervised trunk's needs: every layer learns, SyncBN in trunk and FPN.
Cost: 12 epochs of COCO, batch 16.

  mim train plrc_plugin configs/mmdet/faster-rcnn_r50-fpn_1x_coco.py \
      --cfg-options pretrained=<checkpoint>
"""

_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
    '../_base_/transfer.py',
]

norm_cfg = dict(type='plrc_plugin.SyncBN', requires_grad=True)
model = dict(
    backbone=dict(frozen_stages=-1, norm_cfg=norm_cfg, norm_eval=False, init_cfg=None),
    neck=dict(norm_cfg=norm_cfg),
)
auto_scale_lr = dict(enable=True)
