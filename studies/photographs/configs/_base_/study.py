# What all methods of the study share: a half-width ResNet-18 of stride 16, views of 112 pixels and
# so maps of 7 x 7, and 13 epochs of 5,000 photographs, which is 64,896 images seen.
_base_ = [
    '../../../../configs/_base_/two_views_224.py',
    '../../../../configs/_base_/sgd_cosine_200e.py',
    '../../../../configs/_base_/plrc_runtime.py',
]

model = dict(
    backbone=dict(type='plrc_plugin.ResNet', depth=18, base_channels=32, strides=(1, 2, 2, 1)),
    embedding_dim=128,
    queue_size=4096,
    momentum=0.99,  # 2,028 steps: 0.999 would keep the momentum encoder near its start
    temperature=0.2,
)
train_dataloader = dict(
    num_workers=1,
    pin_memory=False,
    dataset=dict(
        data_root='{{$PLRC_DATA_ROOT:data/photographs}}',
        pipeline=[
            dict(_base_.train_dataloader.dataset.pipeline[0], size=112),
            dict(_base_.train_dataloader.dataset.pipeline[1], points_per_region=8, resolution=28),
        ],
    ),
)
optim_wrapper = dict(type='plrc_plugin.MixedPrecisionOptimWrapper')  # bfloat16
train_cfg = dict(max_epochs=13)
auto_scale_lr = dict(base_batch_size=32)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=-1))
