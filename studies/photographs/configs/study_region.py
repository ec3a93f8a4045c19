"""Region-level contrast in the study: pooled embeddings in place of points, otherwise alike.

OMP_NUM_THREADS=1 mim train plrc_plugin studies/photographs/configs/study_region.py
"""

_base_ = './_base_/study.py'

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
