"""The commands that look at checkpoints: methods side by side, numbers, a line per mistake."""

import json
import os
import re
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from PIL import Image
from runs import tiny_config, train

from plrc_plugin.checkpoints.encoder import load_encoder
from plrc_plugin.config_files import read_config
from plrc_plugin.datasets.masked_images import COCOMasks, VOCMasks, masked_images
from plrc_plugin.datasets.scenes.writing import make_scenes
from plrc_plugin.evaluation.cells import ProbeCells
from plrc_plugin.evaluation.clean_statistics import CleanStatistics, renew_statistics
from plrc_plugin.evaluation.probes import evaluate_encoder
from plrc_plugin.models.reading import read_points
from plrc_plugin.registry import MASK_LAYOUTS, METRICS, MODELS
from plrc_plugin.visualization import affinity

TRUNK = dict(type='plrc_plugin.ResNet', depth=18, base_channels=4, strides=(1, 2, 2, 1))
METHODS = dict(
    plrc=dict(type='plrc_plugin.PLRC', queue_size=8, embedding_dim=8),
    region=dict(type='plrc_plugin.RegionContrast', queue_size=8, embedding_dim=8),
    moco=dict(type='plrc_plugin.MomentumContrast', queue_size=8, embedding_dim=8),
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Scenes, a config, and a checkpoint of every method with weights of its own."""
    folder = tmp_path_factory.mktemp('seeing')
    make_scenes(folder / 'scenes', 6, 4, progress=False)
    for i, (name, model) in enumerate(METHODS.items()):
        torch.manual_seed(i + 1)
        net = MODELS.build(dict(backbone=TRUNK, **model))
        for value in net.momentum_backbone.parameters():
            value.data *= 1.5
        for norm in net.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.running_mean.uniform_(-0.1, 0.1)
        torch.save(dict(state_dict=net.state_dict()), folder / f'{name}.pth')
    (folder / 'config.py').write_text(
        f"custom_imports = dict(imports=['plrc_plugin'])\n"
        f'model = {dict(backbone=TRUNK, **METHODS["plrc"])}\n'
    )
    torch.save(dict(state_dict={'head.weight': torch.ones(2)}), folder / 'no_encoder.pth')
    Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(folder / 'small.png')
    return folder


def call(tool, monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
    runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')


@pytest.fixture
def gallery(folder, tmp_path, monkeypatch):
    """Runs the tool; the figure that it drew."""
    figures = []

    def draw(*args, **kwargs):
        figures.append(original(*args, **kwargs))
        return figures[-1]

    original = affinity.affinity_gallery
    monkeypatch.setattr(affinity, 'affinity_gallery', draw)

    def run(*arguments):
        call(
            'affinity_maps.py',
            monkeypatch,
            folder / 'config.py',
            *arguments,
            '--out',
            tmp_path / 'maps.png',
            tmp_path / 'maps.pdf',
        )
        return figures[-1]

    return run


def test_gallery_of_methods_side_by_side(folder, gallery, tmp_path):
    files = [str(folder / f'{name}.pth') for name in METHODS]
    figure = gallery(
        '--data',
        'scenes',
        '--root',
        folder / 'scenes',
        '--count',
        2,
        '--size',
        128,
        '--checkpoints',
        *files,
        'random',
        '--labels',
        'PLRC',
        'region',
        'MoCo',
        'none',
    )
    axes = [a for a in figure.axes if a.images]
    assert [a.get_title() for a in axes[:5]] == ['image', 'PLRC', 'region', 'MoCo', 'none']
    cfg = Config.fromfile(folder / 'config.py')
    maps = []
    for name, shown in zip([*METHODS, 'random'], axes[1:5]):
        # Cosines of the trunk that the checkpoint holds, computed at the point by hand.
        model = MODELS.build(cfg.model).eval()
        state = load_encoder(cfg, 'random').state_dict()
        if name in METHODS:
            state = torch.load(folder / f'{name}.pth')['state_dict']
        model.backbone.load_state_dict(
            {k[len('backbone.') :]: v for k, v in state.items() if k.startswith('backbone.')}
        )
        data = masked_images('scenes', folder / 'scenes', 'val')
        image, _, instances = COCOMasks(data['annotations'], data['images'])[0]
        point = affinity.object_centre(instances)
        expected = affinity.affinity_map(model, image, point, 128)
        np.testing.assert_allclose(shown.images[0].get_array(), expected, atol=1e-6)
        maps.append(expected)
    assert all((a - b).abs().max() > 1e-3 for i, a in enumerate(maps) for b in maps[:i])
    picture = np.asarray(Image.open(tmp_path / 'maps.png'))
    assert picture.std() > 10 and (tmp_path / 'maps.pdf').read_bytes().startswith(b'%PDF')


def test_points_given_per_image_and_momentum(folder, gallery):
    files = sorted((folder / 'scenes/val').glob('*.jpg'))[:2]
    arguments = [
        *files,
        '--points',
        '.25,.75',
        '1,0',
        '--size',
        64,
        '--checkpoints',
        folder / 'plrc.pth',
    ]
    figure, momentum = gallery(*arguments), gallery(*arguments, '--momentum')
    photo, shown = [a for a in figure.axes if a.images][:2]
    height, width = photo.images[0].get_array().shape[:2]
    assert photo.patches[0].center == (0.25 * width, 0.75 * height)
    other = [a for a in momentum.axes if a.images][1]
    assert np.abs(shown.images[0].get_array() - other.images[0].get_array()).max() > 1e-3
    # The momentum encoder's trunk, at a point that is a cell's centre.
    model = load_encoder(Config.fromfile(folder / 'config.py'), str(folder / 'plrc.pth'), True)
    state = torch.load(folder / 'plrc.pth')['state_dict']
    assert torch.equal(model.backbone.conv1.weight, state['momentum_backbone.conv1.weight'])


@pytest.mark.real_data
def test_gallery_of_a_run_on_photographs(real_data, tmp_path, monkeypatch):
    cfg = tiny_config(
        real_data / 'pretrain',
        tmp_path / 'run',
        **{'train_cfg.max_epochs': 1, 'train_dataloader.dataset.indices': 8},
    )
    cfg.experiment_name = str(tmp_path)
    runner = train(cfg)
    cfg.dump(tmp_path / 'config.py')
    drawn = []
    original = affinity.affinity_gallery
    monkeypatch.setattr(
        affinity, 'affinity_gallery', lambda *a, **k: drawn.append(original(*a, **k)) or drawn[0]
    )
    call(
        'affinity_maps.py',
        monkeypatch,
        tmp_path / 'config.py',
        '--data',
        'voc',
        '--root',
        real_data / 'VOCdevkit/VOC2012',
        '--count',
        2,
        '--checkpoints',
        tmp_path / 'run/epoch_1.pth',
        '--out',
        tmp_path / 'maps.png',
    )
    # At 896 pixels the trunk of stride 16 gives 56 x 56 cells: what is shown are plain cosines.
    masks = VOCMasks(real_data / 'VOCdevkit/VOC2012', 'val')
    shown = [a.images[0].get_array() for a in drawn[0].axes if a.images]
    for i in range(2):
        image, _, instances = masks[i]
        assert np.array_equal(shown[2 * i], image)
        x, y = affinity.object_centre(instances)
        pixels = torch.from_numpy(cv2.resize(image, (896, 896), interpolation=cv2.INTER_AREA))
        with torch.no_grad():
            model = runner.model.eval()
            features = model.backbone(model.data_preprocessor.normalise(pixels[None]))[0]
        assert features.shape[2:] == shown[2 * i + 1].shape == (56, 56)
        anchor = read_points(features, torch.tensor([[[x, y]]]))[0, 0]
        expected = torch.cosine_similarity(features[0], anchor[:, None, None], dim=0)
        np.testing.assert_allclose(shown[2 * i + 1], expected, atol=1e-5)


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['scenes/val', '--checkpoints', 'no_encoder.pth'], 'no_encoder.pth holds no trunk'),
        (['scenes/val', '--checkpoints', 'nowhere.pth'], 'no checkpoint at .*nowhere.pth'),
        (['small.png'], '40 x 20 pixels is too small'),
        (['nowhere.png'], 'nowhere.png'),
        (['config.py'], 'config.py'),
        (['scenes/val', '--points', '.5,1.5'], 'outside the image'),
        (['scenes/val', '--points', '.5,.5', '0,0'], '2 points for 4 images'),
        (['scenes/val', '--points', 'middle'], 'invalid point value'),
        (
            ['scenes/val', '--out', 'nowhere/maps.png'],
            'nowhere/maps.png cannot be written: there is no folder',
        ),
        (['scenes/val', '--out', 'maps.gif'], 'end in .png or .pdf'),
        (['--data', 'voc'], 'VOCMasks: there is no list'),
        ([], 'either images or --data'),
        (['scenes/val', '--size', '0'], 'size must be a positive integer, got 0'),
        (['scenes/val', '--per-row', '0'], 'per_row must be a positive integer, got 0'),
    ],
)
def test_a_mistake_is_one_line(arguments, message, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as end:
        call('affinity_maps.py', monkeypatch, folder / 'config.py', '--size', 64, *arguments)
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count('error: ') == 1
    last = error.strip().splitlines()[-1]
    assert re.search(message, last), last


def test_probe_writes_what_the_function_gives(folder, tmp_path, monkeypatch, capsys):
    call(
        'probe.py',
        monkeypatch,
        folder / 'config.py',
        '--checkpoint',
        folder / 'moco.pth',
        'random',
        '--data',
        'scenes',
        '--root',
        folder / 'scenes',
        '--size',
        64,
        '--cells',
        8,
        '--seeds',
        2,
        '--features',
        'projected',
        '--momentum',
        '--out',
        tmp_path / 'probes.json',
    )
    written = json.loads((tmp_path / 'probes.json').read_text())
    assert written['settings']['features'] == 'projected'
    numbers = written['results'][str(folder / 'moco.pth')]
    model = load_encoder(
        Config.fromfile(folder / 'config.py'),
        str(folder / 'moco.pth'),
        momentum=True,
        projector=True,
    )
    state = torch.load(folder / 'moco.pth')['state_dict']
    assert torch.equal(model.projector[0].weight, state['momentum_projector.0.weight'])
    data = ProbeCells(
        *(masked_images('scenes', folder / 'scenes', s) for s in ('train', 'val')), size=64, cells=8
    )
    probes = [
        dict(probe, seeds=2) if 'Segmentation' in probe['type'] else probe
        for probe in Config.fromfile(ROOT / 'configs/_base_/probes.py').val_evaluator
    ]
    expected = evaluate_encoder(model, data, probes, projected=True)
    assert {k: v for k, v in numbers.items() if k != 'seconds'} == pytest.approx(expected)
    assert numbers['affinity/auc'] != written['results']['random']['affinity/auc']
    out = capsys.readouterr().out
    heads, *lines = [line.split() for line in out.splitlines() if line.startswith((' ', 'a'))]
    assert heads == ['moco.pth', 'random']  # side by side
    (line,) = [line for line in lines if line[0] == 'affinity/auc']
    columns = (numbers, written['results']['random'])
    assert line[1:] == [f'{column["affinity/auc"]:.4f}' for column in columns]


PURITY = """
from plrc_plugin.evaluation import Probe
from plrc_plugin.registry import MASK_LAYOUTS, METRICS


@METRICS.register_module()
class Purity(Probe):
    default_prefix = 'purity'

    def __init__(self, scale=1, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def keep(self, features, truth):
        return float(features.mean()), bool(truth['fit'])

    def compute_metrics(self, results):
        return dict(
            fit=self.scale * sum(value for value, fit in results if fit),
            count=float(len(results)),
        )


@MASK_LAYOUTS.register_module('mine')
def mine(root, split):
    return dict(MASK_LAYOUTS.module_dict['scenes'](root, split))
"""
PROBED = """
custom_imports = dict(imports=['plrc_plugin', '{module}'])
val_evaluator = [
    dict(type='Purity', scale=2),
    dict(type='plrc_plugin.KNNSegmentationProbe', k=3, seeds=4),
]
val_dataloader = dict(
    dataset=dict(type='plrc_plugin.ProbeCells', size=64, cells=4, fit={fit}, score={score})
)
"""


@pytest.fixture
def work_dir(folder, tmp_path, monkeypatch, request):
    """What a run leaves that was validated by a probe of another module: its config, and two
    checkpoints."""
    module = f'purity_{abs(hash(request.node.name))}'
    (tmp_path / f'{module}.py').write_text(PURITY)
    monkeypatch.syspath_prepend(tmp_path)
    parts = {
        name: masked_images('scenes', folder / 'scenes', split, count)
        for name, split, count in (('fit', 'train', 5), ('score', 'val', 3))
    }
    run = tmp_path / 'run'
    run.mkdir()
    text = (folder / 'config.py').read_text() + PROBED.format(module=module, **parts)
    (run / 'x_resolved.py').write_text(text)
    for epoch, name in enumerate(('moco', 'plrc'), 1):
        state = torch.load(folder / f'{name}.pth')
        torch.save(dict(state, meta={}, message_hub={}), run / f'epoch_{epoch}.pth')
        os.utime(run / f'epoch_{epoch}.pth', (epoch, epoch))
    yield run
    METRICS.module_dict.pop('Purity', None)
    MASK_LAYOUTS.module_dict.pop('mine', None)


def test_a_work_dir_is_enough_and_its_config_says_what_is_probed(work_dir, monkeypatch, capsys):
    call('probe.py', monkeypatch, work_dir)
    written = json.loads((work_dir / 'probes.json').read_text())
    assert list(written['results']) == ['random', str(work_dir / 'epoch_2.pth')]
    for numbers in written['results'].values():
        names = {name for name in numbers if '/' in name}
        assert names == {'purity/fit', 'purity/count'} | {
            f'knn_seg/{name}' for name in ('mIoU', 'mIoU_spread', 'accuracy')
        }
        assert numbers['purity/count'] == 8
    assert written['settings']['probes'][1]['seeds'] == 4
    assert '2 probes: fitted on 5 images, scored on 3, of 64 pixels' in capsys.readouterr().out


def test_a_work_dir_is_enough_for_the_other_tools(work_dir, folder, monkeypatch, capsys):
    monkeypatch.chdir(work_dir.parent)
    images = folder / 'scenes/val'
    small = ('--count', 2, '--size', 64)
    call('affinity_maps.py', monkeypatch, work_dir, images, *small)
    assert Image.open('affinity.png').width > 100
    call('explorer.py', monkeypatch, work_dir, images, *small)
    data = re.search('id="data">(.*?)</script>', Path('explorer.html').read_text())[1]
    assert [c['label'] for c in json.loads(data)['checkpoints']] == ['random', 'epoch_2']
    call('export_checkpoint.py', monkeypatch, work_dir, 'out.pth', '--to', 'mmdet')
    assert f'tensors of {work_dir / "epoch_2.pth"}' in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:  # the settings of a config can be changed here too
        options = ('--cfg-options', 'model.backbone.depth=50')
        call('explorer.py', monkeypatch, work_dir, images, *small, *options)
    assert end.value.code == 2
    assert 'model.backbone.depth=18 model' in capsys.readouterr().err


def test_images_of_the_run_are_the_default_of_the_explorer(work_dir, folder, monkeypatch):
    monkeypatch.chdir(work_dir.parent)
    with open(work_dir / 'x_resolved.py', 'a') as config:
        data = dict(type='plrc_plugin.ImageFolder', data_root=str(folder / 'scenes/train'))
        config.write(f'train_dataloader = dict(dataset={dict(data, pipeline=[1])})\n')
    call('explorer.py', monkeypatch, work_dir, '--count', 3, '--size', 64)
    data = re.search('id="data">(.*?)</script>', Path('explorer.html').read_text())[1]
    names = [image['name'] for image in json.loads(data)['images']]
    expected = sorted(path.name for path in (folder / 'scenes/train').glob('*.jpg'))
    assert [names[0], names[-1]] == [expected[0], expected[-1]] and len(names) == 3


def test_probes_and_images_can_be_named(work_dir, folder, monkeypatch, capsys):
    call(
        'probe.py',
        monkeypatch,
        work_dir / 'x_resolved.py',
        *('--checkpoints', work_dir, '--probes', 'Purity', '--data', 'mine'),
        *('--root', folder / 'scenes', '--max-images', 2, '--cells', 7),
        *('--out', work_dir / 'probes.json'),
    )
    written = json.loads((work_dir / 'probes.json').read_text())
    ((checkpoint, numbers),) = written['results'].items()
    assert checkpoint == str(work_dir / 'epoch_2.pth') and numbers['purity/count'] == 4
    assert set(numbers) == {'purity/fit', 'purity/count', 'seconds'}
    assert 'of 224 pixels and 7 x 7 cells' in capsys.readouterr().out


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--probes', 'Puriti'], "there is no probe 'Puriti': registered are"),
        (
            ['--cfg-options', 'val_evaluator.0.scal=3'],
            'scal is no option of Purity; did you mean scale',
        ),
        (['--cfg-options', 'val_evaluator.1.k=0'], 'k must be a positive integer, got 0'),
        (['--cfg-options', 'custom_imports.imports=[no_such]'], 'put PYTHONPATH=. before'),
        (['--data', 'cityscapes'], 'data must be one of voc, coco, scenes, mine, got'),
        (['--probes', 'Purity', 'Purity'], 'two probes give purity/'),
        (['--seeds', '0'], 'seeds must be a positive integer, got 0'),
        (['--size', '0'], 'size must be a positive integer, got 0'),
        (['--max-images', '0'], 'max_images must be a positive integer, got 0'),
        (['--checkpoints', 'nowhere.pth'], 'no checkpoint at nowhere.pth'),
    ],
)
def test_a_mistake_in_probes_or_images(arguments, message, work_dir, monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        call('probe.py', monkeypatch, work_dir, *arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def statistics_options(folder, *arguments):
    return ('--statistics', 4, '--statistics-size', 32, '--photographs', folder, *arguments)


def test_probe_with_statistics_of_photographs(work_dir, folder, tmp_path, monkeypatch, capsys):
    asked = statistics_options(folder / 'scenes/train', '--probes', 'KNNSegmentationProbe')
    found = []
    for number, options in enumerate([(), asked, (*asked, '--batch-size', 3)]):
        out = tmp_path / f'{number}.json'
        call('probe.py', monkeypatch, work_dir, '--checkpoints', work_dir, *options, '--out', out)
        found.append(json.loads(out.read_text()))
    text = capsys.readouterr().out
    assert 'epoch_2.pth: batch-norm statistics: those of the checkpoint' in text
    assert 'epoch_2.pth: batch-norm statistics: of 4 photographs of 32 x 32 pixels' in text
    own, renewed, otherwise = (next(iter(f['results'].values())) for f in found)
    assert own['knn_seg/mIoU'] != renewed['knn_seg/mIoU'] == otherwise['knn_seg/mIoU']
    settings = found[1]['settings']
    assert (settings['statistics'], settings['statistics_size']) == (4, 32)


def test_export_with_statistics_of_photographs(work_dir, folder, tmp_path, monkeypatch, capsys):
    checkpoint = work_dir / 'epoch_2.pth'
    call(
        'export_checkpoint.py',
        monkeypatch,
        *(checkpoint, tmp_path / 'out.pth', '--to', 'mmdet', '--prefix', 'momentum_backbone.'),
        *statistics_options(folder / 'scenes/train'),
    )
    told = 'batch-norm statistics: of 4 photographs of 32 x 32 pixels'
    assert told in capsys.readouterr().out
    written = torch.load(tmp_path / 'out.pth')
    assert written['meta']['source'] == f'{checkpoint}:momentum_backbone.; {told}'
    state = torch.load(checkpoint)['state_dict']
    model = load_encoder(read_config(work_dir), str(checkpoint), momentum=True)
    images = CleanStatistics(4, 32, folder / 'scenes/train').images({})
    renew_statistics(model, images)
    changed = set()
    for name, value in written['state_dict'].items():
        assert torch.equal(value, model.backbone.state_dict()[name])
        if not torch.equal(value, state[f'momentum_backbone.{name}']):
            changed.add(name.rpartition('.')[2])
    assert changed == {'running_mean', 'running_var'}


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--statistics', 4], 'no train_dataloader.dataset: give the folder'),
        (['--statistics', 4, '--photographs', 'nowhere'], 'does not exist'),
        (['--statistics', 7, '--photographs', 'scenes/train'], '7 photographs: there are 6'),
        (['--photographs', 'scenes/train'], 'say of how many|belong to --statistics'),
    ],
)
@pytest.mark.parametrize('tool', ['probe.py', 'export_checkpoint.py'])
def test_a_mistake_in_statistics(tool, arguments, message, folder, work_dir, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    checkpoint = work_dir / 'epoch_2.pth'
    first = {
        'probe.py': [work_dir, '--checkpoints', checkpoint],
        'export_checkpoint.py': [checkpoint, work_dir / 'out.pth', '--to', 'mmdet'],
    }[tool]
    with pytest.raises(SystemExit) as end:
        call(tool, monkeypatch, *first, *arguments)
    assert end.value.code == 2
    assert re.search(message, capsys.readouterr().err.strip().splitlines()[-1])


def test_a_later_mistake_costs_no_earlier_numbers(work_dir, folder, monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        call(
            'probe.py',
            monkeypatch,
            work_dir,
            *('--checkpoints', 'random', folder / 'no_encoder.pth'),
            *('--out', work_dir / 'probes.json'),
        )
    captured = capsys.readouterr()
    assert end.value.code == 2 and 'holds no trunk' in captured.err.splitlines()[-1]
    assert 'purity/fit' in captured.out
    assert list(json.loads((work_dir / 'probes.json').read_text())['results']) == ['random']


@pytest.mark.parametrize(
    'text, message',
    [
        (None, 'there is no config'),
        ('model = dict(', "config.py, line 1: '(' was never closed"),
        ("_base_ = 'nowhere.py'", 'cannot be read as a config'),
    ],
)
@pytest.mark.parametrize('tool', ['probe.py', 'affinity_maps.py', 'explorer.py'])
def test_a_config_that_cannot_be_read_is_one_line(
    tool, text, message, folder, tmp_path, monkeypatch, capsys
):
    if text is not None:
        (tmp_path / 'config.py').write_text(text)
    images = [] if tool == 'probe.py' else [folder / 'scenes/val']
    with pytest.raises(SystemExit) as end:
        call(tool, monkeypatch, tmp_path / 'config.py', *images, '--checkpoints', 'random')
    assert end.value.code == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--batch-size', '0'], 'batch_size must be a positive integer, got 0'),
        (['--root', 'nowhere'], "name a json in COCO's instance format"),
        (['--out', 'nowhere/probes.json'], 'there is no folder nowhere'),
        (['--root', 'scenes', '--checkpoint', 'no_encoder.pth'], 'holds no trunk'),
        (['--root', 'scenes', '--size', '100'], 'size must be a multiple of cells'),
    ],
)
def test_a_mistake_of_the_probe_is_one_line(arguments, message, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as end:
        call('probe.py', monkeypatch, folder / 'config.py', *arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
