"""PLRC in the study with the whole image as its only region.

OMP_NUM_THREADS=1 mim train plrc_plugin studies/photographs/configs/study_plrc_one_region.py
"""

_base_ = './_base_/study_variation.py'

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            _base_.train_dataloader.dataset.pipeline[0],
            dict(
                _base_.train_dataloader.dataset.pipeline[1], regions=dict(type='GridRegions', n=1)
            ),
        ]
    )
)
