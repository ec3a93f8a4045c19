"""Region-level contrast on COCO, 400 COCO epochs, regions of the annotated masks or boxes: Fig. 6,
pooled. Needs PLRC_ANN_FILE, as plrc_coco_400e_truth.

Commands: python tools/ablations.py 6
"""

_base_ = './regioncontrast_coco_400e.py'

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            _base_.train_dataloader.dataset.pipeline[0],
            dict(
                _base_.train_dataloader.dataset.pipeline[1],
                regions=dict(
                    type='CocoRegions',
                    ann_file='{{$PLRC_ANN_FILE:data/coco/annotations/instances_train2017.json}}',
                    kind='mask',
                ),
            ),
        ]
    )
)
