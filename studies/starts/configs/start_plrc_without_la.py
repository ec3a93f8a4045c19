"""PLRC from the supervised start without point affinity distillation; L_c has weight .7.

export PLRC_START=efficientnet-lite0-57934424.pth PLRC_DATA_ROOT=/path/to/5000/photographs
PYTHONPATH=. OMP_NUM_THREADS=1 mim train plrc_plugin studies/starts/configs/start_plrc_without_la.py
"""

_base_ = './start_plrc.py'
model = dict(alpha=1.0)
