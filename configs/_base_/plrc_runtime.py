"""Logging, checkpoints and seeds of every pre-training run. See docs/reliability.md."""

default_scope = 'plrc_plugin'
runner_type = 'plrc_plugin.PretrainRunner'
custom_imports = dict(imports=['plrc_plugin'], allow_failed_imports=False)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='plrc_plugin.AtomicCheckpointHook', interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
# The weights to start from: a checkpoint of any framework, or None for random ones. docs/weights.md
pretrained = None
custom_hooks = [
    dict(type='plrc_plugin.CheckSettingsHook'),
    dict(type='plrc_plugin.SkippedImagesHook', max_share=0.01),
    dict(type='plrc_plugin.CollapseHook'),  # action='stop' ends the run
    dict(type='plrc_plugin.MissingRegionsHook'),
]

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
randomness = dict(seed=0)
# What a model's loss returns is logged as the mean over this many iterations.
log_processor = dict(window_size=50)
log_level = 'INFO'
visualizer = dict(
    type='Visualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
load_from = None
resume = False
