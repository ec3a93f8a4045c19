"""PLRC on COCO train2017 (118k images), 800 COCO epochs: Table 2, row "Ours".

Published: VOC AP 57.1 / AP50 82.1 / AP75 63.8, COCO box AP 39.8 / 59.6 / 43.7 (Mask R-CNN R50-C4,
1x), Cityscapes mIoU 75.9.
Cost: 8 GPUs x 32 images; about 37% of the iterations of plrc_in1k.

    export PLRC_DATA_ROOT=/path/to/coco/train2017
    mim train plrc_plugin configs/plrc_coco.py --launcher pytorch --gpus 8
"""

_base_ = './plrc_in1k.py'

train_dataloader = dict(dataset=dict(data_root='{{$PLRC_DATA_ROOT:data/coco/train2017}}'))
train_cfg = dict(max_epochs=800)
default_hooks = dict(checkpoint=dict(interval=10))
