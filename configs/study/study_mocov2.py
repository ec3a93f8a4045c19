"""MoCo v2 in the study: the image loss alone.

OMP_NUM_THREADS=1 mim train plrc_plugin configs/study/study_mocov2.py
"""

_base_ = '../_base_/study.py'

model = dict(type='plrc_plugin.MomentumContrast')
train_dataloader = dict(dataset=dict(pipeline=[dict(type='plrc_plugin.TwoViews', size=112)]))
