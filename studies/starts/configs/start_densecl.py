"""DenseCL from the supervised start.

export PLRC_START=efficientnet-lite0-57934424.pth PLRC_DATA_ROOT=/path/to/5000/photographs
PYTHONPATH=. OMP_NUM_THREADS=1 mim train plrc_plugin studies/starts/configs/start_densecl.py
"""

_base_ = './start_mocov2.py'
model = dict(type='plrc_plugin.DenseCL', dense_weight=0.5)
