"""PLRC from the supervised start: all terms, L_a from the first step, as the trunk knows objects.

export PLRC_START=efficientnet-lite0-57934424.pth PLRC_DATA_ROOT=/path/to/5000/photographs
PYTHONPATH=. OMP_NUM_THREADS=1 mim train plrc_plugin studies/starts/configs/start_plrc.py
"""

_base_ = './_base_/start.py'
model = dict(type='plrc_plugin.PLRC', alpha=0.5, beta=0.7, warmup_epochs=0)
