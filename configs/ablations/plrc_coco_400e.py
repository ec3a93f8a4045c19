"""PLRC on COCO, 400 COCO epochs, regions of an n x n grid: Fig. 6, points.

Commands: python tools/ablations.py 6
"""

_base_ = '../plrc_coco.py'

train_cfg = dict(max_epochs=400)
