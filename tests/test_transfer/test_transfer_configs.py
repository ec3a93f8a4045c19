from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from plrc_plugin.checkpoints.input_style import InputStyle

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(
    p
    for p in (*ROOT.glob('configs/mm*/*.py'), *ROOT.glob('studies/*/configs/mm*/*.py'))
    if '/studies/' not in p.read_text() or 'studies' in p.parts  # no old names of a study's
)


def load(path):
    pytest.importorskip(path.parent.name)
    if 'TimmTrunk' in path.read_text():
        pytest.importorskip('timm')
    return Config.fromfile(path)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_layer_learns(path):
    config = load(path)
    pytest.importorskip(f'{path.parent.name}.models')
    registry = pytest.importorskip(f'{path.parent.name}.registry')
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = registry.MODELS.build(config.model)
    model.train()
    assert all(parameter.requires_grad for parameter in model.parameters())
    norms = [m for m in model.modules() if 'BatchNorm' in type(m).__name__]
    assert all(norm.training for norm in norms)
    if 'ResNet' in config.model.backbone.type:
        assert len(norms) >= 20
    preprocessor = model.data_preprocessor
    style = getattr(model.backbone, 'input_style', InputStyle())
    bands = preprocessor.mean.numel() == 1  # of any number, see docs/depth.md
    if bands:
        style = style._replace(mean=(sum(InputStyle().mean) / 3,), std=(57.63,))
    assert preprocessor.mean.flatten().tolist() == pytest.approx(style.mean)
    assert preprocessor.std.flatten().tolist() == pytest.approx(style.std)
    # mmdet and mmseg spell it differently
    converts = getattr(preprocessor, '_channel_conversion', False) or getattr(
        preprocessor, 'channel_conversion', False
    )
    assert converts is not bands


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_runs_with_any_train_script_from_one_setting(path):
    config = load(path)
    assert 'plrc_plugin' in config.custom_imports.imports and config.pretrained is None
    assert 'plrc_plugin.LoadTrunk' in [hook.type for hook in config.custom_hooks]
    assert config.auto_scale_lr.enable and config.model.backbone.get('init_cfg') is None
    head = path.read_text().split('"""')[1]
    assert f'mim train plrc_plugin {path.relative_to(ROOT)}' in head and 'Cost: ' in head


def test_recipes():
    """What MoCo's appendix and its detectron2 configs say."""
    voc = load(ROOT / 'configs/mmdet/faster-rcnn_r50-c4_24k_voc0712.py')
    coco = load(ROOT / 'configs/mmdet/mask-rcnn_r50-c4_1x_coco.py')
    city = load(ROOT / 'configs/mmseg/fcn_r50-d16_90k_cityscapes-769x769.py')
    for config, steps, drops, lr in (
        (voc, 24000, [18000, 22000], 0.02),
        (coco, 90000, [60000, 80000], 0.02),
        (city, 90000, [63000, 81000], 0.01),
    ):
        assert config.train_cfg.max_iters == steps
        assert config.param_scheduler[-1].milestones == drops
        assert config.optim_wrapper.optimizer == dict(
            type='SGD', lr=lr, momentum=0.9, weight_decay=1e-4
        )
        assert config.auto_scale_lr.base_batch_size == 16

    def short_sides(pipeline):
        scales = next(t.scales for t in pipeline if t.type == 'RandomChoiceResize')
        assert {long for long, _ in scales} == {1333}
        return [short for _, short in scales]

    assert voc.param_scheduler[0].end == 100 and coco.param_scheduler[0].end == 1000
    for dataset in voc.train_dataloader.dataset.datasets:
        assert short_sides(dataset.pipeline) == list(range(480, 801, 32))
    assert short_sides(coco.train_dataloader.dataset.pipeline) == list(range(640, 801, 32))
    assert city.model.backbone.strides == (1, 2, 2, 1)
    assert city.model.backbone.dilations == (1, 1, 1, 2)
