"""``python -m plrc_plugin pretrain`` and ``plrc_plugin.pretrain``: photographs in, weights out."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from runs import make_images

import plrc_plugin
from plrc_plugin.auto import unresolved
from plrc_plugin.checkpoints.trunk import read_trunk
from plrc_plugin.errors import SettingsError
from plrc_plugin.models.backbones import ResNet
from plrc_plugin.recipe.own_config import backbone_config, config_of

# In place of a ResNet-18 of full width, which takes a second an iteration.
SMALL = {
    'model.backbone.base_channels': 4,
    'train_dataloader.dataset.pipeline.0.size': 64,
    'visualizer': dict(type='Visualizer'),
}


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp('photos') / 'photos', count=40)


def command(*arguments):
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    program = [sys.executable, '-W', 'ignore', '-m', 'plrc_plugin', 'pretrain']
    return dict(
        args=[*program, *map(str, arguments)],
        env={**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_from_a_folder_and_weights_to_a_trunk(photos, tmp_path):
    trunk = ResNet(18, base_channels=4)
    torch.save(trunk.state_dict(), tmp_path / 'start.pth')
    last = plrc_plugin.pretrain(
        photos,
        backbone='resnet18',
        weights=tmp_path / 'start.pth',
        out=tmp_path / 'run',
        epochs=2,
        options=SMALL,
    )
    assert last == str(tmp_path / 'run' / 'epoch_2.pth')
    learned, _ = read_trunk(last)
    assert set(learned) == set(trunk.state_dict())
    moved = [k for k, v in trunk.state_dict().items() if not torch.equal(v, learned[k])]
    assert 'layer4.0.conv1.weight' in moved
    log = next(tmp_path.rglob('*.log')).read_text()
    assert 'starts from weights; budget epochs = 2' in log
    assert f'export_checkpoint {last}' in log and f'fine-tune: pretrained={last}' in log
    written = Config.fromfile(tmp_path / 'run' / 'plrc_photos_resolved.py')
    assert not unresolved(written) and written.train_cfg.max_epochs == 2
    assert written.model.mask_own_keys and written.work_dir == str(tmp_path / 'run')


def test_nothing_is_written_over_and_a_run_goes_on_when_asked(photos, tmp_path):
    given = dict(backbone='resnet18', out=tmp_path / 'run', options=SMALL)
    first = plrc_plugin.pretrain(photos, epochs=1, **given)
    stamp = os.stat(first).st_mtime_ns
    with pytest.raises(SettingsError, match='holds 1 checkpoints of an earlier run'):
        plrc_plugin.pretrain(photos, epochs=1, **given)
    assert os.stat(first).st_mtime_ns == stamp
    assert plrc_plugin.pretrain(photos, epochs=2, resume=True, **given).endswith('epoch_2.pth')


@pytest.mark.slow
def test_the_command_shows_its_progress_can_be_killed_and_goes_on(photos, tmp_path):
    run = ['--out', tmp_path / 'run', '--epochs', 3]
    arguments = [photos, '--backbone', 'mobilenet_v3_small', *run]
    with subprocess.Popen(**command(*arguments)) as process:
        deadline = time.monotonic() + 200
        while not (tmp_path / 'run' / 'epoch_1.pth').exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        said, error = process.communicate()
    assert process.returncode == 143
    assert 'eta: ' in said and 'Settings that depend on the data' in said
    assert re.search(r'epoch_\d\.pth: go on with --resume\.', error.splitlines()[-1])
    again = subprocess.run(**command(*arguments), check=False)
    assert again.returncode == 2 and again.stderr.startswith('error: ')
    done = subprocess.run(**command(*arguments, '--resume'), check=False)
    assert done.returncode == 0, done.stderr
    assert 'goes on     from iteration' in done.stdout and 'next:' in done.stdout
    assert (tmp_path / 'run' / 'epoch_3.pth').exists()


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['nowhere', '--out', 'run'], 'nowhere is not a folder of photographs'),
        (['PHOTOS', '--out', 'run', '--weights', 'none.pth'], 'there is no file none.pth'),
        (['PHOTOS', '--out', 'run', '--hours', '1', '--epochs', '2'], 'give one'),
        (['PHOTOS', '--out', 'run', '--backbone', 'resnet51'], 'backbone resnet51: '),
        (['PHOTOS', '--out', 'run', '--hours', '-1'], 'hours must be positive'),
        (['PHOTOS', '--out', 'FILE'], 'is a file: give the name of a folder'),
        (['EMPTY', '--out', 'run'], 'holds no image'),
        (['PHOTOS'], 'required: --out'),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, message, photos, tmp_path, capsys):
    from plrc_plugin.commands import pretrain

    (tmp_path / 'empty').mkdir()
    (tmp_path / 'file').write_text('mine')
    known = dict(PHOTOS=photos, EMPTY=tmp_path / 'empty', FILE=tmp_path / 'file')
    given = [str(tmp_path / 'run') if a == 'run' else str(known.get(a, a)) for a in arguments]
    with pytest.raises(SystemExit) as done:
        pretrain.main(given)
    assert done.value.code == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert message in errors[-1]
    assert (tmp_path / 'file').read_text() == 'mine'
    assert not list(tmp_path.rglob('*.pth'))


def test_backbones_by_name():
    assert backbone_config('resnet101') == dict(type='plrc_plugin.ResNet', depth=101)
    assert backbone_config('regnet_y_400mf')['type'] == 'plrc_plugin.TorchvisionTrunk'


def test_backbones_of_timm_by_name():
    pytest.importorskip('timm')
    fine = backbone_config('tf_efficientnet_lite0')
    assert fine['type'] == 'plrc_plugin.TimmTrunk' and fine['output_stride'] == 16
    assert 'output_stride' not in backbone_config('vit_tiny_patch16_224')


def test_torchrun_is_noticed(photos, tmp_path, monkeypatch):
    given = [photos, 'resnet18', None, tmp_path / 'run', None, None]
    assert config_of(*given).launcher == 'none'
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'x')
    assert config_of(*given).launcher == 'pytorch'
