"""Region-level contrast on ImageNet-1K, 100 epochs: the line of Fig. 5, VOC AP 56.6.

Command: python tools/ablations.py 5
"""

_base_ = '../regioncontrast_in1k.py'

train_cfg = dict(max_epochs=100)
