"""PLRC from the supervised start without L_a and with L_c at .35, its weight beside L_a.

export PLRC_START=efficientnet-lite0-57934424.pth PLRC_DATA_ROOT=/path/to/5000/photographs
PYTHONPATH=. OMP_NUM_THREADS=1 mim train plrc_plugin studies/starts/configs/start_plrc_half.py
"""

_base_ = './start_plrc.py'
model = dict(alpha=1.0, beta=0.35)
