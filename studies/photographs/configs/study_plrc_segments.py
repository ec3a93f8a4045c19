"""PLRC in the study with Felzenszwalb and Huttenlocher's segments, about 14 an image, for the grid.

OMP_NUM_THREADS=1 mim train plrc_plugin studies/photographs/configs/study_plrc_segments.py
"""

_base_ = './_base_/study_variation.py'

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            _base_.train_dataloader.dataset.pipeline[0],
            dict(
                _base_.train_dataloader.dataset.pipeline[1],
                regions=dict(type='SegmenterRegions', cache_dir='work_dirs/study_segments'),
            ),
        ]
    )
)
