"""PLRC in the study with Felzenszwalb and Huttenlocher's segments, about 14 an image, for the grid.

OMP_NUM_THREADS=1 mim train plrc_plugin configs/study/study_plrc_segments.py
"""

_base_ = '../_base_/study_variation.py'

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='plrc_plugin.TwoViews', size=112),
            dict(
                type='plrc_plugin.SampleRegionPoints',
                regions=dict(type='SegmenterRegions', cache_dir='work_dirs/study_segments'),
                points_per_region=8,
                resolution=28,
            ),
        ]
    )
)
