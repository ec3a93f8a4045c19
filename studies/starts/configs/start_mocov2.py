"""MoCo v2 from the supervised start: the image loss alone.

export PLRC_START=efficientnet-lite0-57934424.pth PLRC_DATA_ROOT=/path/to/5000/photographs
PYTHONPATH=. OMP_NUM_THREADS=1 mim train plrc_plugin studies/starts/configs/start_mocov2.py
"""

_base_ = './_base_/start.py'
model = dict(type='plrc_plugin.MomentumContrast')
train_dataloader = dict(dataset=dict(pipeline=_base_.train_dataloader.dataset.pipeline[:1]))
