"""PLRC on ImageNet-1K, 100 epochs: Tab. 3a-f and, with model.alpha=1, Fig. 5.

Published for the default: VOC AP 58.0 / AP50 82.5 / AP75 64.7.

Every row with its command: python tools/ablations.py
Cost: half of plrc_in1k, for each row.
"""

_base_ = '../plrc_in1k.py'

train_cfg = dict(max_epochs=100)
