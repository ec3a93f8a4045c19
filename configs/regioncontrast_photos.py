"""Region-level contrast on your own photographs: PLRC's regions, each pooled to one embedding.

Reproduces no row of the paper. `python -m plrc_plugin worth` compares with it (docs/worth.md).
Cost: that of the budget.

    export PLRC_DATA_ROOT=/path/to/photos
    mim train plrc_plugin configs/regioncontrast_photos.py \
        --cfg-options pretrained=resnet50.pth budget.hours=2
"""

_base_ = './plrc_photos.py'

model = dict(
    _delete_=True,
    type='plrc_plugin.RegionContrast',
    backbone=dict(type='plrc_plugin.ResNet', depth=50),
    beta=0.7,
    queue_size='auto',
    momentum='auto',
    keep='auto',
    mask_own_keys=True,
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            _base_.train_dataloader.dataset.pipeline[0],
            dict(
                _base_.train_dataloader.dataset.pipeline[1],
                points_per_region=1,
                keep_region_map=True,
            ),
        ]
    )
)
