# R50-C4 detectors as MoCo fine-tunes them with detectron2: every layer learns, SyncBN everywhere
# and once more after res5, no weight decay on norms, precise BN before evaluation.
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50-caffe-c4.py',
    'mmdet::_base_/default_runtime.py',
    './transfer.py',
]

norm_cfg = dict(type='plrc_plugin.SyncBN', requires_grad=True)
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=1,
    ),
    backbone=dict(
        style='pytorch',
        frozen_stages=-1,
        norm_cfg=norm_cfg,
        norm_eval=False,
        zero_init_residual=False,
        init_cfg=None,
    ),
    roi_head=dict(
        shared_head=dict(
            _delete_=True, type='plrc_plugin.Res5ExtraNorm', depth=50, norm_cfg=norm_cfg
        )
    ),
)

custom_hooks = [
    dict(type='plrc_plugin.LoadTrunk'),
    dict(type='plrc_plugin.PreciseBN', num_iters=200),
    dict(type='plrc_plugin.EvaluateFinished'),
]

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(norm_decay_mult=0),
)
# The learning rate belongs to 16 images per step; mmengine scales it to batch_size x processes.
auto_scale_lr = dict(enable=True, base_batch_size=16)

val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=2000, max_keep_ckpts=2))
log_processor = dict(by_epoch=False)
