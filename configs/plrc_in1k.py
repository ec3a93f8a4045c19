"""PLRC on ImageNet-1K, 200 epochs: Table 1, row "Ours".

Published: VOC AP 59.4 / AP50 83.6 / AP75 67.1, COCO box AP 40.7 / 60.4 / 44.7 (Mask R-CNN R50-C4,
1x), Cityscapes mIoU 77.0.
Cost: 8 GPUs x 32 images; the passes of MoCo v2 and a 1x1-convolution projector.

    export PLRC_DATA_ROOT=/path/to/imagenet/train     # or --cfg-options, see docs
    mim train plrc_plugin configs/plrc_in1k.py --launcher pytorch --gpus 8
"""

_base_ = [
    '_base_/plrc_r50.py',
    '_base_/two_views_224.py',
    '_base_/sgd_cosine_200e.py',
    '_base_/plrc_runtime.py',
]

train_dataloader = dict(dataset=dict(data_root='{{$PLRC_DATA_ROOT:data/imagenet/train}}'))
