"""Region-level contrast in the study: pooled embeddings in place of points, otherwise alike.

OMP_NUM_THREADS=1 mim train plrc_plugin configs/study/study_region.py
"""

_base_ = '../_base_/study.py'

model = dict(type='plrc_plugin.RegionContrast', beta=0.7)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='plrc_plugin.TwoViews', size=112),
            dict(
                type='plrc_plugin.SampleRegionPoints',
                points_per_region=1,
                resolution=28,
                keep_region_map=True,
            ),
        ]
    )
)
