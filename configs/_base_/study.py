# The small study of docs/study: what all its methods share. Half-width ResNet-18 of stride 16,
# views of 112 pixels and so maps of 7 x 7, 13 epochs of 5,000 photographs: 64,896 images seen.
_base_ = ['./two_views_224.py', './sgd_cosine_200e.py', './plrc_runtime.py']

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
            dict(type='plrc_plugin.TwoViews', size=112),
            dict(type='plrc_plugin.SampleRegionPoints', points_per_region=8, resolution=28),
        ],
    ),
)
optim_wrapper = dict(type='plrc_plugin.MixedPrecisionOptimWrapper')  # bfloat16
train_cfg = dict(max_epochs=13)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=-1))
