"""Region-level contrast with pooled features on ImageNet-1K, 200 epochs: the paper's own baseline.

Regions, draws, loss and image-level loss are PLRC's; a region is one embedding, pooled over its
mask. Published (Section 4.4): VOC AP 58.2. DetCon, which it resembles (Table 1): COCO box AP 40.5,
Cityscapes mIoU 76.5.
Cost: that of plrc_in1k.

    export PLRC_DATA_ROOT=/path/to/imagenet/train
    mim train plrc_plugin configs/regioncontrast_in1k.py --launcher pytorch --gpus 8
"""

_base_ = './plrc_in1k.py'

model = dict(
    _delete_=True,
    type='plrc_plugin.RegionContrast',
    backbone=dict(type='plrc_plugin.ResNet', depth=50),
    beta=0.7,
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            _base_.train_dataloader.dataset.pipeline[0],
            dict(
                _base_.train_dataloader.dataset.pipeline[1],
                points_per_region=1,
                keep_region_map=True,
            ),
        ]
    )
)
