"""MoCo v2 on your own photographs: configs/plrc_photos.py with the image-level loss alone.

Reproduces no row of the paper. `python -m plrc_plugin worth` compares with it (docs/worth.md).
Cost: that of the budget.

    export PLRC_DATA_ROOT=/path/to/photos
    mim train plrc_plugin configs/mocov2_photos.py \
        --cfg-options pretrained=resnet50.pth budget.hours=2
"""

_base_ = './plrc_photos.py'

model = dict(
    _delete_=True,
    type='plrc_plugin.MomentumContrast',
    backbone=dict(type='plrc_plugin.ResNet', depth=50),
    embedding_dim=128,
    temperature=0.2,
    queue_size='auto',
    momentum='auto',
    keep='auto',
    mask_own_keys=True,
)
train_dataloader = dict(dataset=dict(pipeline=_base_.train_dataloader.dataset.pipeline[:1]))
