"""MoCo v2 in the study: the image loss alone.

OMP_NUM_THREADS=1 mim train plrc_plugin studies/photographs/configs/study_mocov2.py
"""

_base_ = './_base_/study.py'

model = dict(type='plrc_plugin.MomentumContrast')
train_dataloader = dict(dataset=dict(pipeline=_base_.train_dataloader.dataset.pipeline[:1]))
