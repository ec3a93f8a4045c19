"""PLRC on ViT-S/16 of timm with AdamW.

Reproduces no row of the paper, which trains ResNets with SGD: the rate and the decay are those of
MoCo v3, and no transfer was measured. pretrained=<file> starts from weights of timm's
vit_small_patch16_224.
Cost: a forward pass of 4 to 5 GFLOPs per view of 224, about a ResNet-50's.

    pip install 'plrc_plugin[timm]'
    export PLRC_DATA_ROOT=/path/to/photos
    mim train plrc_plugin configs/plrc_vit_small.py --cfg-options pretrained=weights.pth
"""

_base_ = [
    '_base_/plrc_r50.py',
    '_base_/two_views_224.py',
    '_base_/adamw_cosine_200e.py',
    '_base_/plrc_runtime.py',
]

# A map of 14 x 14 of views of 224, from the patch tokens. No batch norm, so nothing to shuffle.
model = dict(
    backbone=dict(_delete_=True, type='plrc_plugin.TimmTrunk', name='vit_small_patch16_224'),
    shuffle_bn=False,
)
train_dataloader = dict(dataset=dict(data_root='{{$PLRC_DATA_ROOT:data/photographs}}'))
