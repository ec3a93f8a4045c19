"""DenseCL (arXiv 2011.09157) on ImageNet-1K, 200 epochs: beyond the paper, for comparison.

On MoCo v2's views, optimiser and schedule, as its authors have it. No row in the paper.
Cost: that of mocov2_in1k and a second projector.

    export PLRC_DATA_ROOT=/path/to/imagenet/train
    mim train plrc_plugin configs/densecl_in1k.py --launcher pytorch --gpus 8
"""

_base_ = './mocov2_in1k.py'

model = dict(type='plrc_plugin.DenseCL', dense_weight=0.5)
