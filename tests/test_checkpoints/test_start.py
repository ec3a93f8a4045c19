"""``pretrained`` in pre-training: under every runner, resumed, in parts; what it replaces."""

import subprocess
import sys

import pytest
import torch
import torchvision
from conftest import ROOT
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

sys.path.insert(0, str(ROOT / 'tests' / 'test_reliability'))
from runs import make_images, tiny_config

from plrc_plugin.checkpoints.safe_reading import load_tensors
from plrc_plugin.checkpoints.start import check_whole
from plrc_plugin.errors import SettingsError
from plrc_plugin.models.backbones import ResNet

WIDTH = 4  # of tiny_config


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp('images'), 8)


@pytest.fixture
def trunk(tmp_path):
    torch.manual_seed(5)
    state = ResNet(18, base_channels=WIDTH).state_dict()
    torch.save(state, tmp_path / 'trunk.pth')
    return state, str(tmp_path / 'trunk.pth')


class Stop(Hook):
    """Ends the run before its first step, or after it."""

    priority = 'LOWEST'

    def __init__(self, after=False):
        self.after = after

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if not self.after:
            raise KeyboardInterrupt

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        raise KeyboardInterrupt


def started(cfg, build=RUNNERS.build, after=False):
    """The model before its first step; with ``after``, after it."""
    runner = build(cfg)
    runner.register_hook(Stop(after))
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    return runner.model


def config(images, tmp_path, **more):
    options = {'model.backbone.strides': (1, 2, 2, 2), 'train_dataloader.batch_size': 4}
    cfg = tiny_config(images, tmp_path / 'run', **options)
    cfg.custom_hooks = [h for h in cfg.custom_hooks if h['type'] != 'RecordHook']
    cfg.experiment_name = tmp_path.name  # else runs of the same second share a logger
    for name, value in more.items():
        cfg[name] = value
    return cfg


def encoders_equal(model, state):
    return all(
        torch.equal(value, state[key])
        for encoder in (model.backbone, model.momentum_backbone)
        for key, value in encoder.state_dict().items()
    )


@pytest.mark.parametrize('hooks', ['as they are', 'replaced'])
@pytest.mark.parametrize('build', [RUNNERS.build, Runner.from_cfg], ids=['ours', 'mmengine'])
def test_both_encoders_start_from_the_file(build, hooks, images, trunk, tmp_path):
    state, path = trunk
    cfg = config(images, tmp_path, pretrained=path)
    if hooks == 'replaced':
        cfg.custom_hooks = []
    # Under mmengine's runner, which adds no hook, the first training pass reads the setting.
    late = build == Runner.from_cfg
    if late:
        cfg.optim_wrapper.optimizer.update(lr=0.0, weight_decay=0.0)
    model = started(cfg, build, after=late)
    if late:  # batch normalisation has seen a batch
        state = {k: v for k, v in state.items() if v.dim() == 4}
        assert all(
            torch.equal(v, encoder.state_dict()[k])
            for encoder in (model.backbone, model.momentum_backbone)
            for k, v in state.items()
        )
    else:
        assert encoders_equal(model, state)
    log = next((tmp_path / 'run').rglob('*.log')).read_text()
    assert 'backbone: 100 of 100 tensors' in log
    assert 'momentum_backbone: 100 of 100 tensors' in log


def test_scratch_is_the_default(images, tmp_path):
    torch.manual_seed(0)
    a = started(config(images, tmp_path / 'a'))
    b = started(config(images, tmp_path / 'b', pretrained='scratch'))
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


def test_the_tool_and_a_resumed_run(images, trunk, tmp_path):
    """tools/train.py starts from the file, and goes on without it."""
    path = tmp_path / 'own.py'
    cfg = config(images, tmp_path, pretrained=trunk[1])
    cfg.default_hooks.checkpoint.interval = 1
    cfg.train_cfg.max_epochs = 1
    cfg.dump(path)
    command = [sys.executable, str(ROOT / 'tools/train.py'), str(path), '--work-dir']
    command.append(str(tmp_path / 'run'))
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert 'backbone: 100 of 100 tensors loaded' in done.stdout + done.stderr
    learned = load_tensors(str(tmp_path / 'run' / 'epoch_1.pth'))
    assert learned['meta']['input_style']['order'] == 'RGB'
    (tmp_path / 'trunk.pth').unlink()
    cfg.resume, cfg.train_cfg.max_epochs = True, 2
    model = started(cfg)
    assert encoders_equal(
        model,
        {
            **{k[9:]: v for k, v in learned['state_dict'].items() if k.startswith('backbone.')},
        },
    ) or torch.equal(model.backbone.conv1.weight, learned['state_dict']['backbone.conv1.weight'])


def test_parts_of_our_own_checkpoints(images, tmp_path):
    cfg = config(images, tmp_path / 'first')
    cfg.train_cfg.max_epochs = 1
    RUNNERS.build(cfg).train()
    path = str(tmp_path / 'first' / 'run' / 'epoch_1.pth')
    state = load_tensors(path)['state_dict']

    def equal(model, *parts):
        return [
            all(
                torch.equal(value, state[f'{part}.{key}'])
                for key, value in getattr(model, part).state_dict().items()
            )
            for part in parts
        ]

    names = 'backbone', 'projector', 'momentum_backbone', 'momentum_projector', 'queue'
    model = started(config(images, tmp_path / 'trunk', pretrained=path))
    assert equal(model, *names) == [True, False, False, False, False]  # its twin equals backbone
    model = started(
        config(images, tmp_path / 'b', pretrained=path, pretrained_parts=['backbone', 'projector'])
    )
    assert equal(model, *names) == [True, True, False, False, False]
    assert torch.equal(model.momentum_projector[0].weight, state['projector.0.weight'])
    model = started(config(images, tmp_path / 'c', pretrained=path, pretrained_parts='all'))
    assert all(equal(model, *names))
    for parts, message in (('projektor', "no 'projektor'; it has"), (['queue'], None)):
        cfg = config(images, tmp_path / 'd', pretrained=path, pretrained_parts=parts)
        if message:
            with pytest.raises(SettingsError, match=message):
                started(cfg)
        else:
            assert equal(started(cfg), *names) == [False, False, False, False, True]


@pytest.mark.parametrize('where', ['load_from', 'model.init_cfg', 'model.backbone.init_cfg'])
def test_other_ways_are_refused_with_the_line_that_works(where, images, trunk, tmp_path):
    path = trunk[1]
    cfg = config(images, tmp_path)
    if where == 'load_from':
        cfg.load_from = path
    else:
        cfg.merge_from_dict({where: dict(type='Pretrained', checkpoint=path)})
    with pytest.raises(SettingsError, match=f'set pretrained={path} instead'):
        RUNNERS.build(cfg).train()


def test_load_from_a_whole_checkpoint_stays(images, tmp_path):
    cfg = config(images, tmp_path / 'first')
    cfg.train_cfg.max_epochs = 1
    RUNNERS.build(cfg).train()
    path = str(tmp_path / 'first' / 'run' / 'epoch_1.pth')
    model = started(config(images, tmp_path / 'second', load_from=path))
    state = load_tensors(path)['state_dict']
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_what_does_not_fit_stops_the_run_before_its_first_step(images, tmp_path):
    path = tmp_path / 'r50.pth'
    torch.save(torchvision.models.resnet50().state_dict(), path)
    with pytest.raises(SettingsError, match='does not fit') as error:
        RUNNERS.build(config(images, tmp_path, pretrained=str(path))).train()
    assert len(str(error.value).splitlines()) <= 8
    with pytest.raises(SettingsError, match='pretrained_parts=.* needs the checkpoint'):
        RUNNERS.build(config(images, tmp_path / 'b', pretrained_parts='all')).train()


@pytest.mark.parametrize(
    'style, message',
    [
        (dict(mean=[103.53, 116.28, 123.675], std=[1, 1, 1], order='BGR'), 'BGR.*the file says'),
        (dict(mean=[127.5] * 3, std=[127.5] * 3), r'mean=\[127.5, 127.5, 127.5\]'),
    ],
)
def test_an_input_that_the_model_does_not_give_is_refused(style, message, images, trunk, tmp_path):
    state, path = trunk
    torch.save(dict(meta=dict(input_style=style), state_dict=state), path)
    with pytest.raises(SettingsError, match=message):
        RUNNERS.build(config(images, tmp_path, pretrained=path)).train()
    cfg = config(images, tmp_path / 'b', pretrained=path)
    cfg.model.data_preprocessor = dict(type='plrc_plugin.ViewsPreprocessor', **style)
    assert encoders_equal(started(cfg), state)


def test_an_input_may_be_stated_for_files_that_do_not_tell(images, trunk, tmp_path):
    cfg = config(images, tmp_path, pretrained=trunk[1])
    half = dict(mean=[127.5] * 3, std=[127.5] * 3)
    cfg.model.data_preprocessor = dict(type='plrc_plugin.ViewsPreprocessor', **half)
    with pytest.raises(
        SettingsError, match='assumed, because the file does not say.*pretrained_input'
    ):
        RUNNERS.build(cfg).train()
    cfg.work_dir, cfg.pretrained_input = str(tmp_path / 'b'), 'half'
    assert encoders_equal(started(cfg), trunk[0])


def test_weights_that_are_not_finite_are_refused(trunk, images, tmp_path):
    state, _ = trunk
    state['layer3.0.conv1.weight'][0, 0] = float('nan')
    path = tmp_path / 'spoilt.pth'
    torch.save(state, path)
    with pytest.raises(SettingsError, match=r'1 tensors are not finite, first layer3.0.conv1'):
        RUNNERS.build(tiny_config(images, tmp_path / 'a', pretrained=str(path))).train()
    model = RUNNERS.build(tiny_config(images, tmp_path / 'b')).model
    whole = model.state_dict()
    whole['queue.bank'][0] = float('inf')
    with pytest.raises(SettingsError, match=r'first queue.bank'):
        check_whole(model, dict(state_dict=whole), 'spoilt.pth')
