"""PLRC in miniature: generated scenes, half-width ResNet-18, views of 96 pixels. Nothing to
download; about 4 minutes on two cores.

Reproduces no row of the paper: it shows the whole path, and losses and affinities that change.

    mim train plrc_plugin configs/plrc_demo.py      # or `make demo`, which also draws pictures
"""

_base_ = [
    '_base_/plrc_r50.py',
    '_base_/two_views_224.py',
    '_base_/sgd_cosine_200e.py',
    '_base_/plrc_runtime.py',
    '_base_/probes.py',
]

model = dict(
    backbone=dict(depth=18, base_channels=32, strides=(1, 2, 2, 1)),  # stride 16: a map of 6 x 6
    queue_size=1024,
    momentum=0.99,  # some hundred steps: 0.999 would keep the momentum encoder near its start
    warmup_epochs=2,  # 30 of 200 epochs in the paper, 2 of 12 here
)
train_dataloader = dict(
    num_workers=1,
    pin_memory=False,
    dataset=dict(
        type='plrc_plugin.GeneratedScenes',
        data_root='{{$PLRC_SCENES:data/scenes}}',
        pipeline=[
            dict(_base_.train_dataloader.dataset.pipeline[0], size=96),
            dict(_base_.train_dataloader.dataset.pipeline[1], points_per_region=8, resolution=24),
        ],
    ),
)
train_cfg = dict(max_epochs=12, val_interval=3)
auto_scale_lr = dict(base_batch_size=32)  # the rate of .03 was tried with this batch
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(save_best='knn_seg/mIoU'))
log_processor = dict(window_size=30)

# Every third epoch: probes of the frozen trunk, and affinity maps. See docs/seeing.md.
val_masks = dict(
    type='plrc_plugin.COCOMasks',
    annotations='{{$PLRC_SCENES:data/scenes}}/annotations/instances_val.json',
    images='{{$PLRC_SCENES:data/scenes}}/val',
)
val_dataloader = dict(
    dataset=dict(
        size=160,
        cells=10,
        fit=dict(
            _delete_=True,
            type='plrc_plugin.COCOMasks',
            annotations='{{$PLRC_SCENES:data/scenes}}/annotations/instances_train.json',
            images='{{$PLRC_SCENES:data/scenes}}/train',
            max_images=200,
        ),
        score=dict(_delete_=True, **val_masks),
    )
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='plrc_plugin.AffinityHook', data=val_masks, interval=3, size=448),
]
