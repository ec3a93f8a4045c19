import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision

from plrc_plugin.checkpoints.export import TARGETS, export_trunk
from plrc_plugin.checkpoints.trunk import read_trunk
from plrc_plugin.errors import SettingsError
from plrc_plugin.registry import EXPORTS

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'export_checkpoint.py'


@pytest.fixture(scope='module')
def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope='module')
def expected(trunk18, images):
    """Features of torchvision's own model, filled tensor by tensor."""
    model = torchvision.models.resnet18()
    for key, value in model.state_dict().items():
        if not key.startswith('fc.'):
            value.copy_(trunk18[key])
    model.eval()
    with torch.no_grad():
        x = model.maxpool(model.relu(model.bn1(model.conv1(images))))
        x = model.layer4(model.layer3(model.layer2(model.layer1(x))))
    assert x.std() > 0
    return x


def close(features, expected):
    # relative to the features' size, which random weights make large
    return (features - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_torchvision(trunk18, images, expected, tmp_path):
    export_trunk(trunk18, tmp_path / 'out.pth', 'torchvision')
    model = torchvision.models.resnet18()
    missing, unexpected = model.load_state_dict(
        torch.load(tmp_path / 'out.pth', weights_only=True), strict=False
    )
    assert set(missing) == {'fc.weight', 'fc.bias'} and not unexpected
    model.eval()
    model.avgpool = model.fc = torch.nn.Identity()
    with torch.no_grad():
        assert close(model(images).view_as(expected), expected)


def test_timm(trunk18, images, expected, tmp_path):
    timm = pytest.importorskip('timm')
    export_trunk(trunk18, tmp_path / 'out.pth', 'timm')
    model = timm.create_model(
        'resnet18', num_classes=0, global_pool='', checkpoint_path=str(tmp_path / 'out.pth')
    ).eval()
    with torch.no_grad():
        assert close(model(images), expected)


@pytest.mark.parametrize(
    'package, target', [('mmdet', 'mmdet'), ('mmseg', 'mmseg'), ('mmdet', 'safetensors')]
)
def test_mmdet_and_mmseg(package, target, trunk18, images, expected, tmp_path):
    models = pytest.importorskip(f'{package}.models')
    path = tmp_path / ('out.safetensors' if target == 'safetensors' else 'out.pth')
    export_trunk(trunk18, path, target)
    model = models.backbones.ResNet(depth=18, out_indices=(3,))
    if target == 'safetensors':
        model.load_state_dict(read_trunk(path)[0])
    else:  # as a user's config would
        model.init_cfg = dict(type='Pretrained', checkpoint=str(path))
        model.init_weights()
        assert all(torch.equal(value, trunk18[key]) for key, value in model.state_dict().items())
    model.eval()
    with torch.no_grad():
        assert close(model(images)[0], expected)


def detectron2_shapes(blocks, bottleneck):
    """Names and shapes of detectron2's ResNet of torchvision's widths, from its documentation."""
    shapes = {'stem.conv1.weight': (64, 3, 7, 7)}
    norms = {'stem.conv1': 64}
    before = 64
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        after = width * 4 if bottleneck else width
        for i in range(count):
            name = f'res{stage + 2}.{i}'
            convs = (
                [(1, before, width), (3, width, width), (1, width, after)]
                if bottleneck
                else [(3, before, width), (3, width, width)]
            )
            for j, (kernel, cin, cout) in enumerate(convs, 1):
                shapes[f'{name}.conv{j}.weight'] = (cout, cin, kernel, kernel)
                norms[f'{name}.conv{j}'] = cout
            if before != after:
                shapes[f'{name}.shortcut.weight'] = (after, before, 1, 1)
                norms[f'{name}.shortcut'] = after
            before = after
    for name, width in norms.items():
        for part in ('weight', 'bias', 'running_mean', 'running_var'):
            shapes[f'{name}.norm.{part}'] = (width,)
        shapes[f'{name}.norm.num_batches_tracked'] = ()
    return shapes


@pytest.mark.parametrize('arch, blocks', [('resnet18', (2, 2, 2, 2)), ('resnet50', (3, 4, 6, 3))])
def test_detectron2_names_shapes_and_values(arch, blocks, tmp_path):
    trunk = getattr(torchvision.models, arch)().state_dict()
    trunk = {key: value for key, value in trunk.items() if not key.startswith('fc.')}
    export_trunk(trunk, tmp_path / 'out.pkl', 'detectron2')
    with open(tmp_path / 'out.pkl', 'rb') as file:
        content = pickle.load(file)
    assert content['matching_heuristics'] is True and content['__author__']
    shapes = {key: value.shape for key, value in content['model'].items()}
    assert shapes == detectron2_shapes(blocks, arch == 'resnet50')
    for ours, theirs in {
        'conv1.weight': 'stem.conv1.weight',
        'bn1.running_var': 'stem.conv1.norm.running_var',
        'layer2.0.downsample.0.weight': 'res3.0.shortcut.weight',
        'layer4.0.downsample.1.bias': 'res5.0.shortcut.norm.bias',
        'layer3.1.bn2.weight': 'res4.1.conv2.norm.weight',
    }.items():
        assert torch.equal(torch.as_tensor(content['model'][theirs]), trunk[ours])


def test_others_become_ours(trunk18, tmp_path):
    moco = {f'module.encoder_q.{key}': value for key, value in trunk18.items()}
    torch.save(
        dict(state_dict={**moco, 'module.encoder_q.fc.0.weight': torch.ones(1)}),
        tmp_path / 'moco.pth',
    )
    done = subprocess.run(
        [
            sys.executable,
            str(TOOL),
            str(tmp_path / 'moco.pth'),
            str(tmp_path / 'ours.pth'),
            '--to',
            'plrc',
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "under 'encoder_q.'" in done.stdout, done.stderr
    state = torch.load(tmp_path / 'ours.pth', weights_only=True)['state_dict']
    assert set(state) == {f'backbone.{key}' for key in trunk18}
    assert all(torch.equal(state[f'backbone.{key}'], trunk18[key]) for key in trunk18)


@pytest.mark.parametrize('target', ['mmdet', 'torchvision', 'detectron2', 'safetensors'])
def test_unmatched_names_are_listed(target, trunk18, tmp_path):
    broken = {**trunk18, 'attention.weight': torch.ones(1)}
    del broken['layer3.0.conv2.weight'], broken['bn1.bias']
    with pytest.raises(ValueError) as error:
        export_trunk(broken, tmp_path / 'out', target)
    for line in (
        'missing: bn1.bias',
        'missing: layer3.0.conv2.weight',
        'unknown: attention.weight',
    ):
        assert line in str(error.value)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    'prefix, line',
    [
        ('', 'base_encoder.conv1.weight'),  # no known place: MoCo v3's
        ('base_encoder', '.conv1.weight'),
        ('base_encoder.layer4.', '0.conv1.weight'),
        ('base_encoder.layer4.0.', 'missing: layer1.0.conv1.weight'),
    ],
)
def test_what_is_not_a_whole_trunk_is_refused_for_every_target(prefix, line, trunk18, tmp_path):
    state = {f'base_encoder.{key}': value for key, value in trunk18.items()}
    torch.save(dict(state_dict=state), tmp_path / 'moco3.pth')
    trunk, _ = read_trunk(tmp_path / 'moco3.pth', prefix)
    for target in TARGETS:
        with pytest.raises(ValueError, match=line.replace('.', '[.]')):
            export_trunk(trunk, tmp_path / 'out', target)
    assert not (tmp_path / 'out').exists()


def test_counters_may_lack_and_widths_must_fit(trunk18, tmp_path):
    old = {key: value for key, value in trunk18.items() if 'num_batches' not in key}
    export_trunk(old, tmp_path / 'out.pth', 'mmdet')
    assert read_trunk(tmp_path / 'out.pth')[0].keys() == trunk18.keys()
    narrow = {**trunk18, 'conv1.weight': torch.ones(32, 3, 7, 7)}
    with pytest.raises(ValueError, match='conv1.weight: .32, 3, 7, 7.'):
        export_trunk(narrow, tmp_path / 'narrow.pth', 'timm')


def test_other_trunks_go_where_they_can(tmp_path):
    trunk = {'patch_embed.weight': torch.ones(2)}
    export_trunk(trunk, tmp_path / 'out.pth', 'mmpretrain')
    assert read_trunk(tmp_path / 'out.pth')[0].keys() == trunk.keys()
    with pytest.raises(ValueError, match='takes only ResNets with'):
        export_trunk(trunk, tmp_path / 'out.pkl', 'detectron2')


@pytest.fixture
def further_target():
    """A target from outside, which disappears again."""

    @EXPORTS.register_module('names_only')
    def write_names(trunk, path, source):
        Path(path).write_text('\n'.join([source, *trunk]))
        return list(trunk)

    yield 'names_only'
    EXPORTS.module_dict.pop('names_only')


def test_a_registered_function_is_a_target(further_target, trunk18, tmp_path):
    assert further_target in TARGETS and further_target in list(TARGETS)
    names = export_trunk(trunk18, tmp_path / 'out.txt', further_target, 'somewhere')
    assert (tmp_path / 'out.txt').read_text().splitlines() == ['somewhere', *names]
    # What every target is promised: a whole ResNet, under the names of a trunk.
    with pytest.raises(SettingsError, match='missing: conv1.weight'):
        export_trunk({k: v for k, v in trunk18.items() if k != 'conv1.weight'}, 'x', further_target)


def test_a_target_that_no_module_registers_is_named_with_the_others(trunk18, tmp_path):
    with pytest.raises(SettingsError, match="one of .*mmdet, .*detectron2.*, got 'ncnn'"):
        export_trunk(trunk18, tmp_path / 'out', 'ncnn')


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['out', '--to', 'ncnn'], "got 'ncnn'"),
        (['out', '--to', 'mmdet', '--import', 'no_such_module'], 'put PYTHONPATH=.'),
        (['out', '--to', 'mmdet', '--prefix', 'nowhere.'], "no trunk under 'nowhere.'"),
        (['no/folder/out', '--to', 'safetensors'], 'no/folder'),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments, message, plrc_checkpoint, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', [str(TOOL), str(plrc_checkpoint), *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOL), run_name='__main__')
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.startswith('error: ') and message in error


@pytest.mark.parametrize('target', ['mmdet', 'safetensors'])
def test_an_efficientnet_is_no_resnet_though_it_has_a_bn1(target, tmp_path):
    trunk = {'conv_stem.weight': torch.ones(2, 3, 3, 3), 'bn1.weight': torch.ones(2)}
    assert set(export_trunk(trunk, str(tmp_path / 'trunk'), target)) == set(trunk)
