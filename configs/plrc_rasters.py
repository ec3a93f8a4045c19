"""PLRC on images that are not 8-bit RGB: 1 to 16 channels of 8, 16 or 32 bits, signed or float.

Reproduces no row of the paper. As in plrc_photos.py, what depends on the data is computed before
the run. The window of values that becomes the range of the network is too; it is printed and kept
with the run. docs/depth.md has the ways to choose it.
Cost: that of the budget, a number of hours, epochs or images.

    export PLRC_DATA_ROOT=/path/to/tiffs
    mim train plrc_plugin configs/plrc_rasters.py --cfg-options budget.hours=2 \
        model.backbone.in_channels=5 train_dataloader.dataset.pipeline.0.channels=5
"""

_base_ = './plrc_photos.py'

model = dict(backbone=dict(in_channels=4))
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(
                _base_.train_dataloader.dataset.pipeline[0],
                channels=4,
                window='percentiles',
            ),
            _base_.train_dataloader.dataset.pipeline[1],
        ],
    ),
)
