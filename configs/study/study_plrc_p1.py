"""PLRC in the study with P = 1 point per region in place of 8.

OMP_NUM_THREADS=1 mim train plrc_plugin configs/study/study_plrc_p1.py
"""

_base_ = '../_base_/study_variation.py'

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='plrc_plugin.TwoViews', size=112),
            dict(type='plrc_plugin.SampleRegionPoints', points_per_region=1, resolution=28),
        ]
    )
)
