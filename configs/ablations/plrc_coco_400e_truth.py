"""PLRC on COCO, 400 COCO epochs, regions of the annotated masks or boxes: Fig. 6, points.

Not for pre-training without labels: it measures what better regions would be worth.

    export PLRC_DATA_ROOT=/path/to/coco/train2017
    export PLRC_ANN_FILE=/path/to/coco/annotations/instances_train2017.json

Commands: python tools/ablations.py 6
"""

_base_ = './plrc_coco_400e.py'

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
