"""Region-level contrast from the supervised start: pooled embeddings in place of points.

export PLRC_START=efficientnet-lite0-57934424.pth PLRC_DATA_ROOT=/path/to/5000/photographs
PYTHONPATH=. OMP_NUM_THREADS=1 mim train plrc_plugin studies/starts/configs/start_region.py
"""

_base_ = './_base_/start.py'
model = dict(type='plrc_plugin.RegionContrast', beta=0.7)
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
