"""PLRC in the study with the whole image as its only region.

OMP_NUM_THREADS=1 mim train plrc_plugin configs/study/study_plrc_one_region.py
"""

_base_ = '../_base_/study_variation.py'

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='plrc_plugin.TwoViews', size=112),
            dict(
                type='plrc_plugin.SampleRegionPoints',
                regions=dict(type='GridRegions', n=1),
                points_per_region=8,
                resolution=28,
            ),
        ]
    )
)
