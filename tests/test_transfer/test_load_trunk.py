"""The checkpoint reaches every place, says so, and a run without it does not start."""

import logging
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from plrc_plugin.checkpoints.trunk import load_trunk, read_trunk

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
R18_C4 = {
    'model.backbone.depth': 18,
    'model.rpn_head.in_channels': 256,
    'model.roi_head.shared_head.depth': 18,
    'model.roi_head.bbox_roi_extractor.out_channels': 256,
    'model.roi_head.bbox_head.in_channels': 512,
}
R18_FCN = {'model.backbone.depth': 18, 'model.decode_head.in_channels': 512}


def build(name, options):
    package = pytest.importorskip(Path(name).parts[0])
    registry = pytest.importorskip(f'{package.__name__}.registry')
    pytest.importorskip(f'{package.__name__}.models')
    config = Config.fromfile(CONFIGS / name)
    config.merge_from_dict(options)
    with DefaultScope.overwrite_default_scope(package.__name__):
        model = registry.MODELS.build(config.model)
        model.init_weights()
    return model


@pytest.mark.parametrize(
    'name, options, in_backbone',
    [
        ('mmdet/faster-rcnn_r50-c4_24k_voc0712.py', R18_C4, 75),
        (
            'mmdet/mask-rcnn_r50-c4_1x_coco.py',
            {**R18_C4, 'model.roi_head.mask_head.in_channels': 512},
            75,
        ),
        ('mmseg/fcn_r50-d16_90k_cityscapes-769x769.py', R18_FCN, 100),
    ],
)
def test_trunk_and_res5_equal_the_checkpoint_tensor_by_tensor(
    name, options, in_backbone, plrc_checkpoint, trunk18
):
    model = build(name, options)
    lines = load_trunk(model, read_trunk(plrc_checkpoint)[0])
    found = dict(model.backbone.state_dict().items())
    assert lines[0] == f'backbone: {in_backbone} of {in_backbone} tensors loaded'
    if 'mmdet' in name:
        res5 = model.roi_head.shared_head.state_dict()
        new = {key for key in res5 if key.startswith('norm.')}
        assert not found.keys() & res5.keys() and len(new) == 5
        found.update({key: value for key, value in res5.items() if key not in new})
        assert lines[1].startswith('roi_head.shared_head: 25 of 29 tensors loaded, new: norm.bias')
    assert found.keys() == trunk18.keys()
    for key, value in found.items():
        if 'num_batches' not in key:
            assert torch.equal(value, trunk18[key]), key


def test_res5_is_followed_by_the_extra_norm():
    model = build('mmdet/faster-rcnn_r50-c4_24k_voc0712.py', R18_C4)
    head = model.roi_head.shared_head.train()
    with torch.no_grad():
        out = head(torch.rand(8, 256, 14, 14))
    assert out.shape == (8, 512, 7, 7)
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(512), atol=1e-5, rtol=0)
    assert out.std().item() == pytest.approx(1, abs=0.05)


class Segmenter(BaseModel):
    """The least that LoadTrunk fills: a backbone."""

    def __init__(self):
        super().__init__()
        self.backbone = torch.nn.Linear(2, 2, bias=False)

    def forward(self, x, mode):
        return dict(loss=self.backbone(x).sum()) if mode == 'loss' else [x]


def test_problems_are_listed_and_nothing_is_loaded():
    model = Segmenter()
    before = model.backbone.weight.clone()
    with pytest.raises(ValueError, match=r'backbone.weight: \(3, 2\) in the checkpoint, \(2, 2\)'):
        load_trunk(model, dict(weight=torch.ones(3, 2)))
    with pytest.raises(ValueError, match='backbone.weight: not in the checkpoint'):
        load_trunk(model, dict(conv1=torch.ones(2)))
    model.roi_head = torch.nn.ModuleDict(
        dict(
            shared_head=torch.nn.ModuleDict(
                dict(layer4=torch.nn.Linear(1, 1), norm=torch.nn.BatchNorm1d(1))
            )
        )
    )
    with pytest.raises(ValueError, match='shared_head.layer4.bias: not in the checkpoint') as error:
        load_trunk(model, dict(weight=torch.ones(2, 2)))
    assert 'norm' not in str(error.value)
    with pytest.raises(ValueError, match='conv1: no place in backbone'):
        load_trunk(model, dict(weight=torch.ones(2, 2), conv1=torch.ones(2)))
    assert torch.equal(model.backbone.weight, before)


def fine_tune(work_dir, pretrained, epochs=1, lr=0.0, **more):
    data = dict(
        dataset=[torch.ones(2)] * 2,
        batch_size=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=lambda items: dict(x=torch.stack(items)),
    )
    config = dict(
        model=Segmenter(),
        work_dir=str(work_dir),
        train_dataloader=data,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=lr)),
        custom_hooks=[dict(type='plrc_plugin.LoadTrunk')],
        **more,
    )
    runner = Runner(
        **config, cfg=dict(pretrained=pretrained, **more), experiment_name=str(work_dir)
    )
    runner.train()
    return runner.model.backbone.weight


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / 'trunk.pth'
    torch.save({'backbone.weight': torch.full((2, 2), 3.0)}, path)
    return str(path)


def test_a_run_starts_from_the_setting_and_says_what_matched(saved, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        weight = fine_tune(tmp_path / 'run', saved)
    assert torch.equal(weight, torch.full((2, 2), 3.0))
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert 'backbone: 1 of 1 tensors loaded' in log


def test_a_run_without_a_trunk_stops(saved, tmp_path):
    with pytest.raises(ValueError, match='pretrained is not set.*pretrained=scratch'):
        fine_tune(tmp_path / 'none', None)
    with pytest.raises(ValueError, match='no checkpoint at .*no.pth'):
        fine_tune(tmp_path / 'missing', str(tmp_path / 'no.pth'))
    torch.save({'backbone.other': torch.ones(2, 2)}, saved)
    with pytest.raises(ValueError, match='does not fit'):
        fine_tune(tmp_path / 'other', saved)
    fine_tune(tmp_path / 'scratch', 'scratch')


def test_load_from_is_refused_before_it_is_read(saved, tmp_path):
    (tmp_path / 'evil.pth').write_bytes(b'no checkpoint at all')
    with pytest.raises(ValueError, match='load_from=.*evil.pth.*set pretrained'):
        fine_tune(tmp_path / 'run', saved, load_from=str(tmp_path / 'evil.pth'))
    with pytest.raises(ValueError, match='resume from .*evil.pth: it is cut off, or no checkpoint'):
        fine_tune(tmp_path / 'run', saved, load_from=str(tmp_path / 'evil.pth'), resume=True)


class CountEvaluations(BaseMetric):
    count = 0

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        self.count += 1
        return {}


def test_a_run_cut_off_in_its_last_evaluation_is_evaluated_when_resumed(tmp_path):
    def run(**more):
        data = dict(
            dataset=[torch.ones(2)] * 2,
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=lambda items: dict(x=torch.stack(items)),
        )
        metric = CountEvaluations()
        Runner(
            Segmenter(),
            str(tmp_path),
            train_dataloader=data,
            val_dataloader=data,
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2),
            val_cfg=dict(),
            val_evaluator=Evaluator(metric),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2)),
            custom_hooks=[dict(type='plrc_plugin.EvaluateFinished')],
            experiment_name=str(tmp_path),
            **more,
        ).train()
        return metric.count

    assert run() == 1
    assert run(resume=True) == 1  # no step left, and what was logged may be of an earlier one


def test_resuming_keeps_what_was_learned(saved, tmp_path):
    learned = fine_tune(tmp_path / 'run', saved, epochs=1, lr=0.5).clone()
    assert not torch.equal(learned, torch.full((2, 2), 3.0))
    resumed = fine_tune(tmp_path / 'run', saved, epochs=2, lr=0.5, resume=True)
    torch.testing.assert_close(resumed, learned - (torch.full((2, 2), 3.0) - learned))
