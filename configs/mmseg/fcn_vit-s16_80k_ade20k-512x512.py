"""FCN ViT-S/16 on ADE20K, tested on val. No row of the paper.

The trunk of configs/plrc_vit_small.py, from which every tensor comes, its patch tokens as one map
of stride 16, and AdamW whose rate falls towards the first block.
Cost: 80,000 steps of 16 crops of 512.

  mim train plrc_plugin configs/mmseg/fcn_vit-s16_80k_ade20k-512x512.py \
      --cfg-options pretrained=<checkpoint>
"""

_base_ = './fcn_r50-d16_80k_ade20k-512x512.py'

model = dict(
    # Sides are padded to whole patches.
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, test_cfg=dict(size_divisor=16)),
    backbone=dict(
        _delete_=True, type='plrc_plugin.TimmTrunk', name='vit_small_patch16_224', drop_path=0.1
    ),
    decode_head=dict(in_channels=384),
)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='plrc_plugin.LayerwiseRates',
    paramwise_cfg=dict(
        layer_decay=0.65,
        norm_decay_mult=0,
        bias_decay_mult=0,
        custom_keys=dict(pos_embed=dict(decay_mult=0), cls_token=dict(decay_mult=0)),
    ),
)
