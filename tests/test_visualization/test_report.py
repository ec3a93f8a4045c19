"""The report shows the numbers that were logged, and says what is missing."""

import html
import json
import re
import runpy
import shutil
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from PIL import Image

from plrc_plugin.errors import SettingsError
from plrc_plugin.registry import MODELS
from plrc_plugin.visualization import report
from plrc_plugin.visualization.run import read_run, read_runs

LOSSES = [
    dict(
        loss=5 - s / 7,
        l_m=6.1 + s / 3,
        top1=s / 100,
        time=0.5 + 0.1 * (s % 2),
        data_time=0.01,
        epoch=1 + (s - 1) // 4,
        iter=s,
        step=s,
    )
    for s in range(1, 9)
]
METRICS = [dict(mIoU=4.5 + s, time=1.0, data_time=0.1, step=s) for s in (1, 2)]
ENVIRONMENT = 'System environment:\n    PyTorch: 2.10\n    GPU number: 2'


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    """A run as mmengine leaves it, two epochs of four iterations, with its checkpoints."""
    folder = tmp_path_factory.mktemp('runs') / 'first'
    data = folder / '20260101_000000' / 'vis_data'
    (data / 'vis_image').mkdir(parents=True)
    lines = [*LOSSES[:4], METRICS[0], *LOSSES[4:], METRICS[1]]
    (data / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    cfg = Config.fromfile(ROOT / 'configs/mocov2_in1k.py')
    cfg.merge_from_dict(
        {
            'model.backbone.depth': 18,
            'model.backbone.base_channels': 4,
            'model.queue_size': 8,
            'train_dataloader.batch_size': 16,
            'train_dataloader.dataset.data_root': str(folder.parent / 'images'),
        }
    )
    cfg.dump(data / 'config.py')
    for epoch in (1, 2, 10):
        torch.save(
            dict(state_dict=MODELS.build(cfg.model).state_dict()), folder / f'epoch_{epoch}.pth'
        )
    rule = '-' * 60
    (data.parent / 'a.log').write_text(f'INFO - \n{rule}\n{ENVIRONMENT}\n{rule}\n\nINFO - Config:')
    (folder.parent / 'images').mkdir()
    rng = np.random.default_rng(0)
    for i in range(9):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(
            folder.parent / 'images' / f'{i}.png'
        )
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(data / 'vis_image' / 'affinity_2.png')
    return folder


@pytest.fixture
def other(work_dir, tmp_path):
    """A second run, without checkpoints, at another learning rate."""
    folder = tmp_path / 'second'
    shutil.copytree(work_dir, folder, ignore=shutil.ignore_patterns('*.pth'))
    config = next(folder.rglob('config.py'))
    config.write_text(config.read_text().replace('lr=0.03', 'lr=0.06'))
    return folder


def table(page, identity):
    """{row: [exact value or text of each cell]}."""
    body = re.search(rf'<table id="{identity}">.*?<tbody>(.*?)</tbody>', page, re.S)[1]
    rows = {}
    for name, cells in re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', body, re.S):
        cells = re.findall(r'<td>(.*?)</td>', cells, re.S)
        values = [re.search(r'<data value="([^"]*)"', cell) for cell in cells]
        rows[html.unescape(name)] = [v[1] if v else c for v, c in zip(values, cells)]
    return rows


def test_numbers_are_those_logged(work_dir, tmp_path):
    report.write_report(tmp_path / 'page.html', [work_dir])
    page = (tmp_path / 'page.html').read_text()
    rows = table(page, 'results')
    assert rows.pop('iterations') == ['8']
    assert set(rows) == {'loss', 'l_m', 'top1', 'data_time', 'mIoU', 'images per second'}
    for name in ('loss', 'l_m', 'top1', 'data_time'):
        assert float(rows[name][0]) == LOSSES[-1][name]
    assert float(rows['mIoU'][0]) == 6.5
    assert float(rows['images per second'][0]) == 2 * 16 / 0.5
    least, greatest = min(e['loss'] for e in LOSSES), max(e['loss'] for e in LOSSES)
    assert f'<small>{least:.4g} to {greatest:.4g}</small>' in page
    assert ENVIRONMENT in page and 'base_channels=4' in html.unescape(page)
    assert page.count('src="data:') == page.count('<img') == 3  # curves, gallery, the hook's
    assert not re.search(r'(?:src|href)="(?!data:)', page)


def test_curves_are_the_scalars_over_iterations(work_dir, other):
    runs = [read_run(work_dir), read_run(other)]
    panels = {
        axes.get_title(): axes
        for axes in report.draw_curves(runs, ['loss', 'mIoU']).axes
        if axes.get_title()
    }
    assert [line.get_label() for line in panels['loss'].lines] == ['first', 'second']
    for line in panels['loss'].lines:
        assert line.get_xydata().tolist() == [[e['step'], e['loss']] for e in LOSSES]
    # Validation is logged by epoch: its values stand at the epochs' last iterations.
    assert panels['mIoU'].lines[0].get_xydata().tolist() == [[4, 5.5], [8, 6.5]]


def test_several_runs_are_compared(work_dir, other, tmp_path):
    report.write_report(tmp_path / 'page.html', [work_dir, other])
    page = (tmp_path / 'page.html').read_text()
    assert [float(v) for v in table(page, 'results')['loss']] == [LOSSES[-1]['loss']] * 2
    assert table(page, 'differences') == {'optim_wrapper.optimizer.lr': ['0.03', '0.06']}
    assert 'No checkpoint is kept' in page


def test_runs_in_folders_of_one_name_are_told_apart(work_dir, tmp_path):
    folders = [
        tmp_path / 'plrc' / 'seed0',
        tmp_path / 'moco' / 'seed0',
        tmp_path / 'moco' / 'seed1',
    ]
    for folder in folders:
        shutil.copytree(work_dir, folder, ignore=shutil.ignore_patterns('*.pth'))
    assert [run.name for run in read_runs(folders[1:])] == ['seed0', 'seed1']
    names = ['plrc/seed0', 'moco/seed0', 'moco/seed1']
    assert [run.name for run in read_runs(folders)] == names
    report.write_report(tmp_path / 'page.html', folders)
    head = re.search(r'<table id="results">.*?</thead>', (tmp_path / 'page.html').read_text(), re.S)
    assert re.findall('<th scope="col">(.*?)</th>', head[0]) == ['curve', *names]
    with pytest.raises(SettingsError, match='seed0 is given twice'):
        read_runs([folders[0], folders[0] / '..' / 'seed0'])


def test_gallery_goes_through_the_checkpoints_kept(work_dir):
    run = read_run(work_dir)
    images = report.training_images(run.cfg)
    assert len(images) == 4 and images[0].shape == (40, 60, 3)
    figure = report.gallery_over_time(run, images[:1])
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ['image', 'start', 'epoch 1', 'epoch 2', 'epoch 10']


def test_images_that_are_gone_leave_the_rest(work_dir, other, tmp_path):
    config = next(other.rglob('config.py'))
    config.write_text(config.read_text().replace(str(work_dir.parent / 'images'), 'gone'))
    shutil.copy(work_dir / 'epoch_1.pth', other)
    report.write_report(tmp_path / 'page.html', [other])
    assert 'give others with --images' in (tmp_path / 'page.html').read_text()


def test_mistakes_end_in_one_line(other, tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['report.py', *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            runpy.run_path(str(ROOT / 'tools/report.py'), run_name='__main__')
        assert exit_.value.code == 2
        message = capsys.readouterr().err
        assert message.startswith('error: ') and message.count('\n') == 1
        return message

    assert 'cannot be written' in run(other, '--out', tmp_path / 'missing' / 'page.html')
    Image.fromarray(np.zeros((9, 40, 3), np.uint8)).save(tmp_path / 'a.png')
    assert 'a.png is too small, 40 x 9 pixels' in run(other, '--images', tmp_path)
    torch.save(dict(state_dict={'head.weight': torch.zeros(1)}), other / 'epoch_1.pth')
    assert 'epoch_1.pth holds no trunk' in run(other)
    next(other.rglob('config.py')).unlink()
    assert 'vis_data/config.py' in run(other)
    next(other.rglob('scalars.json')).unlink()
    assert 'vis_data/scalars.json with losses' in run(other)
