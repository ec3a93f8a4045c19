"""PLRC in the study with P = 1 point per region in place of 8.

OMP_NUM_THREADS=1 mim train plrc_plugin studies/photographs/configs/study_plrc_p1.py
"""

_base_ = './_base_/study_variation.py'

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            _base_.train_dataloader.dataset.pipeline[0],
            dict(_base_.train_dataloader.dataset.pipeline[1], points_per_region=1),
        ]
    )
)
