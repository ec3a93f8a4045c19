"""Two MoCo v2 views of 224, 16 points in each of 16 regions of a 4 x 4 grid; 32 per process."""

train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='plrc_plugin.KeyedSampler', shuffle=True),
    collate_fn=dict(type='plrc_plugin.collate_views'),
    dataset=dict(
        type='plrc_plugin.ImageFolder',
        data_root='???',
        pipeline=[
            dict(type='plrc_plugin.TwoViews', size=224),
            dict(
                type='plrc_plugin.SampleRegionPoints',
                regions=dict(type='GridRegions', n=4),
                num_regions=16,
                points_per_region=16,
                resolution=56,
            ),
        ],
    ),
)
