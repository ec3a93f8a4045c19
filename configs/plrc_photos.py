"""PLRC on your own photographs, whatever their number: from weights that you have, or from none.

Reproduces no row of the paper. What depends on the number of images, on the length of the run or on
the machine is 'auto': it is computed before the run and printed in one table with its reasons.
docs/recipe.md has the rules. Any of these settings can be set by hand, and 'auto' works in any
other config.
Cost: that of the budget, a number of hours, epochs or images.

    export PLRC_DATA_ROOT=/path/to/photos
    mim train plrc_plugin configs/plrc_photos.py \
        --cfg-options pretrained=resnet50.pth budget.hours=2
"""

_base_ = './plrc_in1k.py'

budget = dict()  # one of hours=..., epochs=..., images=...; docs/recipe.md says what it is without

model = dict(
    queue_size='auto',
    momentum='auto',
    warmup_epochs='auto',
    keep='auto',
    mask_own_keys=True,
)
train_dataloader = dict(
    batch_size='auto',
    num_workers='auto',
    persistent_workers='auto',
    pin_memory='auto',
    dataset=dict(
        data_root='{{$PLRC_DATA_ROOT:data/photos}}',
        pipeline=[
            dict(_base_.train_dataloader.dataset.pipeline[0], size='auto'),
            dict(
                _base_.train_dataloader.dataset.pipeline[1],
                points_per_region='auto',
                resolution='auto',
            ),
        ],
    ),
)
optim_wrapper = dict(type='auto', optimizer=dict(lr='auto'))
# Both go by iterations: with two epochs, a rate that falls by epochs has two values.
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end='auto'),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs='auto')
default_hooks = dict(logger=dict(interval='auto'), checkpoint=dict(interval='auto'))
log_processor = dict(window_size='auto')
