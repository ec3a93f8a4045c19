"""AdamW for transformers and ConvNeXts: MoCo v3's rate of 1.5e-4 for a batch of 256 = 8 x 32, a
warm-up of 1,000 iterations, then one cosine over all epochs. Norms, biases, tokens and position
embeddings do not decay."""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1.5e-4, betas=(0.9, 0.999), weight_decay=0.1),
    clip_grad=dict(max_norm=3.0),
    # With weights to start from, layer_decay=0.75 lets the stem learn more slowly.
    constructor='plrc_plugin.LayerwiseRates',
    paramwise_cfg=dict(
        layer_decay=1.0,
        norm_decay_mult=0,
        bias_decay_mult=0,
        flat_decay_mult=0,
        custom_keys=dict(pos_embed=dict(decay_mult=0), cls_token=dict(decay_mult=0)),
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=1000),
    # Without T_max the cosine spans max_epochs, whatever --cfg-options makes of it.
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True),
]
train_cfg = dict(type='plrc_plugin.ResumableTrainLoop', max_epochs=200)
auto_scale_lr = dict(base_batch_size=256)
