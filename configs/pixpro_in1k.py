"""PixPro (arXiv 2011.10043) on ImageNet-1K, 100 epochs of a symmetric loss: beyond the paper's
method, for comparison.

Published (Table 1, 100 symmetric epochs counted as 200): VOC AP 58.8 / AP50 83.0 / AP75 66.5, COCO
box AP 40.0 / 59.3 / 43.4, Cityscapes mIoU 76.8. Its authors use LARS at a batch of 1024 and BYOL's
augmentation; here it shares optimiser and views with everything else, so that only the objective
differs.
Cost: as many passes as 200 epochs of the others.

    export PLRC_DATA_ROOT=/path/to/imagenet/train
    mim train plrc_plugin configs/pixpro_in1k.py --launcher pytorch --gpus 8
"""

_base_ = './mocov2_in1k.py'

model = dict(
    _delete_=True,
    type='plrc_plugin.PixPro',
    backbone=dict(type='plrc_plugin.ResNet', depth=50),
    embedding_dim=256,
    momentum=0.99,
    symmetric=True,
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(
        type='plrc_plugin.ScheduleHook', attribute='momentum', start=0.99, end=1.0, curve='cosine'
    ),
]
train_cfg = dict(max_epochs=100)
