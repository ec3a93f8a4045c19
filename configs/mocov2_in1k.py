"""MoCo v2 on ImageNet-1K, 200 epochs: the image-level baseline, on the same runner and views.

Published (800 epochs, Table 1, row "MoCo v2"): VOC AP 57.6 / AP50 82.7 / AP75 64.4, COCO box AP
39.8 / 59.8 / 43.6, Cityscapes mIoU 76.2. Add --cfg-options train_cfg.max_epochs=800 for that row.
Cost: 8 GPUs x 32 images.

    export PLRC_DATA_ROOT=/path/to/imagenet/train
    mim train plrc_plugin configs/mocov2_in1k.py --launcher pytorch --gpus 8
"""

_base_ = ['_base_/two_views_224.py', '_base_/sgd_cosine_200e.py', '_base_/plrc_runtime.py']

model = dict(
    type='plrc_plugin.MomentumContrast',
    backbone=dict(type='plrc_plugin.ResNet', depth=50),
    embedding_dim=128,
    queue_size=65536,
    momentum=0.999,
    temperature=0.2,
)
train_dataloader = dict(
    dataset=dict(
        data_root='{{$PLRC_DATA_ROOT:data/imagenet/train}}',
        pipeline=_base_.train_dataloader.dataset.pipeline[:1],
    )
)
