"""Probes of the frozen trunk on VOC2012's masks as validation, for any pre-training config."""

val_cfg = dict(type='plrc_plugin.ProbeLoop')
val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='plrc_plugin.ProbeCells',
        fit=dict(
            type='plrc_plugin.VOCMasks',
            data_root='{{$PLRC_VOC:data/VOCdevkit/VOC2012}}',
            split='train',
        ),
        score=dict(
            type='plrc_plugin.VOCMasks',
            data_root='{{$PLRC_VOC:data/VOCdevkit/VOC2012}}',
            split='val',
        ),
    ),
)
val_evaluator = [
    dict(type='plrc_plugin.LinearSegmentationProbe'),
    dict(type='plrc_plugin.KNNSegmentationProbe'),
    dict(type='plrc_plugin.AffinityQuality'),
    dict(type='plrc_plugin.ImageClassificationProbe'),
]
