"""MoCo v2's optimiser: SGD at 0.03 for a batch of 256 = 8 x 32, one cosine over all epochs."""

optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.03, momentum=0.9, weight_decay=1e-4)
)
# Without T_max the cosine spans max_epochs, whatever --cfg-options makes of it.
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=0, by_epoch=True)]
train_cfg = dict(type='plrc_plugin.ResumableTrainLoop', max_epochs=200)
auto_scale_lr = dict(base_batch_size=256)
