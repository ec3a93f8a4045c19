"""Every pre-training config: loaded, built as it is, and run for two iterations in miniature.
Those of transfer are built in test_transfer/test_transfer_configs.py."""

import importlib.util
import json
import math
import re

import pytest
from conftest import ROOT
from mmengine.config import Config
from mmengine.registry import TRANSFORMS
from mmengine.runner import Runner

from plrc_plugin.auto import unresolved
from plrc_plugin.engine.runner import PretrainRunner
from plrc_plugin.recipe import resolve
from plrc_plugin.recipe.windows import resolve_windows
from plrc_plugin.registry import MODELS

CONFIGS = sorted(
    p
    for p in (*ROOT.glob('configs/**/*.py'), *ROOT.glob('studies/*/configs/**/*.py'))
    if not {'_base_', 'mmdet', 'mmseg', 'study'} & set(p.relative_to(ROOT).parts)
)
POINTS = 'train_dataloader.dataset.pipeline.1.'


def table():
    spec = importlib.util.spec_from_file_location('ablations', ROOT / 'tools/ablations.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ABLATIONS = table()
ROWS = [
    (sweep, value)
    for sweeps in ABLATIONS.SWEEPS.values()
    for sweep in sweeps
    for value in sweep.rows
]


@pytest.fixture
def data(image_folder, tmp_path, monkeypatch):
    """Six images, all but one annotated: masks that are left and right halves."""
    names = sorted(str(p.relative_to(image_folder)) for p in image_folder.rglob('*.[pP]*'))
    annotations = [
        dict(image_id=i, bbox=[x, 0, 60, 90], segmentation=[[x, 0, x + 60, 0, x + 60, 90, x, 90]])
        for i in range(6)
        for x in (0, 60)
    ]
    (tmp_path / 'instances.json').write_text(
        json.dumps(
            dict(
                images=[dict(id=i, file_name=n, width=120, height=90) for i, n in enumerate(names)],
                annotations=annotations,
            )
        )
    )
    monkeypatch.setenv('PLRC_DATA_ROOT', str(image_folder))
    monkeypatch.setenv('PLRC_ANN_FILE', str(tmp_path / 'instances.json'))
    monkeypatch.setenv('PLRC_SCENES', str(tmp_path / 'scenes'))
    return image_folder


def test_base_names_are_unique_as_mim_finds_configs_by_them():
    names = [p.name for p in (ROOT / 'configs').rglob('*.py')]
    assert len(names) == len(set(names)) and len(CONFIGS) >= 14


def read(path) -> Config:
    """A config for the images of the fixture, which have three channels."""
    cfg = Config.fromfile(path)
    step = cfg.train_dataloader.dataset.get('pipeline', [{}])[0]
    if step.get('channels') is not None:
        step.channels = cfg.model.backbone.in_channels = 3
    return cfg


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_loads_builds_and_says_how_to_run_it(path, data):
    cfg = read(path)
    if unresolved(cfg):
        cfg.train_dataloader.batch_size = 3
        resolve(cfg)
    resolve_windows(cfg)
    model = MODELS.build(cfg.model)
    assert model.embedding_dim in (128, 256) and model.stride in (16, 32)
    assert not any(p.requires_grad for p in model.momentum_backbone.parameters())
    for transform in cfg.train_dataloader.dataset.pipeline:
        TRANSFORMS.build(transform)
    head = path.read_text().split('"""')[1]
    if path.parent.name == 'ablations':
        assert 'python tools/ablations.py' in head
    else:
        assert f'mim train plrc_plugin {path.relative_to(ROOT)}' in head


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_runs_two_iterations(path, data, tmp_path):
    cfg = read(path)
    if cfg.model.backbone.type == 'plrc_plugin.TimmTrunk':
        pytest.importorskip('timm')
    else:
        cfg.model.backbone.update(depth=18, base_channels=4)
    cfg.merge_from_dict(
        {
            'randomness.seed': 0,
            'train_dataloader.dataset.pipeline.0.size': 64,
            'train_dataloader.batch_size': 3,
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'train_dataloader.pin_memory': False,
            'default_hooks.logger.interval': 1,
            'train_cfg.max_epochs': 1,
        }
    )
    cfg.pop('pretrained', None)  # files that are no part of the project
    if 'queue_size' in cfg.model:
        cfg.model.queue_size = 32
    if 'warmup_epochs' in cfg.model:
        cfg.model.warmup_epochs = 0
    if cfg.train_dataloader.dataset.type == 'plrc_plugin.GeneratedScenes':
        cfg.train_dataloader.dataset.update(num_train=6, num_val=2)
    cfg.work_dir = cfg.experiment_name = str(tmp_path / 'work')
    runner = (PretrainRunner if unresolved(cfg) else Runner).from_cfg(cfg)
    runner.train()
    assert runner.iter == 2
    lines = next((tmp_path / 'work').rglob('scalars.json')).read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    for entry in (e for e in entries if 'loss' in e):  # validation logs its own
        assert all(math.isfinite(value) for value in entry.values())
        expected = dict(
            PLRC={'l_m', 'l_c', 'l_a'},
            RegionContrast={'l_m', 'l_c'},
            MomentumContrast={'l_m'},
            DenseCL={'l_m', 'l_dense'},
            PixPro={'l_pix', 'momentum'},
        )[cfg.model.type.split('.')[1]]
        if cfg.model.get('alpha') == 1:
            expected = expected - {'l_a'}
        assert expected == {k for k in entry if k.startswith('l_') or k == 'momentum'}


@pytest.mark.parametrize('sweep, value', ROWS, ids=lambda x: getattr(x, 'title', None) or str(x))
def test_rows_of_the_tables_reach_model_and_pipeline(sweep, value, data):
    cfg = Config.fromfile(ROOT / 'configs/ablations' / f'{sweep.config}.py')
    for name in (sweep.setting, *sweep.fixed):  # mim gridsearch asks for names and types that exist
        current = cfg
        for part in name.split('.'):
            current = current[int(part) if isinstance(current, list) else part]
        assert isinstance({**sweep.fixed, sweep.setting: value}[name], type(current)), name
    cfg.merge_from_dict({**sweep.fixed, sweep.setting: value})
    cfg.model.backbone.update(depth=18, base_channels=4)
    cfg.model.queue_size = 8
    built = dict(
        model=MODELS.build(cfg.model),
        points=TRANSFORMS.build(cfg.train_dataloader.dataset.pipeline[1]),
    )
    assert cfg.train_cfg.max_epochs == (400 if 'coco' in sweep.config else 100)
    leaf = sweep.setting.rpartition('.')[2]
    if leaf == 'n':
        assert built['points'].regions({}).shape == (value, value)
    elif leaf == 'kind':
        assert built['points'].regions.kind == value
    else:
        owner = built['model' if sweep.setting.startswith('model') else 'points']
        assert getattr(owner, leaf) == value
    alpha = 1 if sweep.fixed else value if leaf == 'alpha' else 0.5
    assert 'region' in sweep.config or built['model'].alpha == alpha


def test_the_table_holds_the_papers_numbers():
    numbers = {
        name: [row for sweep in sweeps for row in sweep.rows.values()]
        for name, sweeps in ABLATIONS.SWEEPS.items()
    }
    assert [len(numbers[name]) for name in ('3a', '3b', '3c', '3d', '3e', '3f', '5', '6')] == [
        3,
        4,
        4,
        3,
        3,
        3,
        7,
        8,
    ]
    for name in ('3a', '3b', '3c', '3d', '3e', '3f'):
        assert numbers[name].count((58.0, 82.5, 64.7)) == 1  # the default is a row of each
        assert all(ap < ap75 < ap50 for ap, ap50, ap75 in numbers[name])


@pytest.mark.long
def test_mim_gridsearch_runs_a_sweep(data, tmp_path, monkeypatch):
    """onedl-mim's or openmim's own code, two values."""
    gridsearch = pytest.importorskip('mim.commands.gridsearch')
    monkeypatch.setattr(gridsearch, 'is_installed', lambda package: True)
    monkeypatch.setattr(gridsearch, 'module_full_name', lambda package: package)
    monkeypatch.setattr(gridsearch, 'get_installed_path', lambda package: str(ROOT))
    monkeypatch.setattr(gridsearch.time, 'sleep', lambda seconds: None)
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    command = ABLATIONS.search_command('3b', ABLATIONS.SWEEPS['3b'][0])
    config, search = re.search(r"(configs/\S+) .*--search-args '(.*)'", command).groups()
    done, message = gridsearch.gridsearch(
        'plrc_plugin',
        str(ROOT / config),
        gpus=0,
        search_args=' '.join(search.split()[:3]),
        other_args=(
            '--work-dir',
            str(tmp_path / 'grid'),
            '--cfg-options',
            'model.backbone.depth=18',
            'model.backbone.base_channels=4',
            'model.queue_size=32',
            'train_dataloader.dataset.pipeline.0.size=64',
            'train_dataloader.batch_size=3',
            'train_dataloader.num_workers=0',
            'train_dataloader.persistent_workers=False',
            'train_cfg.max_epochs=1',
            'model.warmup_epochs=0',
        ),
    )
    assert done, message
    for alpha in ('0.0', '0.3'):
        work_dir = tmp_path / f'grid_search_model.alpha_{alpha}'
        assert (work_dir / 'epoch_1.pth').exists()
        dumped = next(work_dir.rglob('vis_data/config.py'))
        assert Config.fromfile(dumped).model.alpha == float(alpha)
