"""Point-Level Region Contrast on ResNet-50, all hyper-parameters as in Section 4.1."""

model = dict(
    type='plrc_plugin.PLRC',
    backbone=dict(type='plrc_plugin.ResNet', depth=50),
    embedding_dim=128,
    queue_size=65536,
    momentum=0.999,
    temperature=0.2,
    alpha=0.5,
    beta=0.7,
    warmup_epochs=30,
    strategy=1,
    region_contrast=dict(type='plrc_plugin.PointRegionContrast', temperature=0.2),
    affinity_distillation=dict(
        type='plrc_plugin.PointAffinityDistillation',
        student_temperature=0.1,
        teacher_temperature=0.07,
    ),
)
