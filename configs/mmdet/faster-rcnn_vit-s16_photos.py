"""Faster R-CNN on the patch tokens of a ViT-S/16, for boxes of your own in COCO's json. No row of
the paper.

The trunk of configs/plrc_vit_small.py, from which every tensor comes, its patch tokens as one map
of stride 16, and AdamW whose rate falls towards the first block. Set num_classes to yours, and
metainfo=dict(classes=(...)) of the data sets.
Cost: 3,000 steps of 4 photographs of 1,333 x 800 pixels.

  mim train plrc_plugin configs/mmdet/faster-rcnn_vit-s16_photos.py \
      --cfg-options pretrained=<checkpoint>
"""

_base_ = './faster-rcnn_last-map_photos.py'

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        _delete_=True, type='plrc_plugin.TimmTrunk', name='vit_small_patch16_224', drop_path=0.1
    ),
    neck=dict(in_channels=[384]),
)
optim_wrapper = dict(
    optimizer=dict(lr=1e-4),
    constructor='plrc_plugin.LayerwiseRates',
    paramwise_cfg=dict(
        layer_decay=0.7,
        custom_keys=dict(pos_embed=dict(decay_mult=0), cls_token=dict(decay_mult=0)),
    ),
)
