"""Region-level contrast on COCO, 400 COCO epochs, regions of an n x n grid: Fig. 6, pooled.

Commands: python tools/ablations.py 6
"""

_base_ = '../regioncontrast_in1k.py'

train_dataloader = dict(dataset=dict(data_root='{{$PLRC_DATA_ROOT:data/coco/train2017}}'))
train_cfg = dict(max_epochs=400)
default_hooks = dict(checkpoint=dict(interval=10))
