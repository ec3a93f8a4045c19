"""Gallery, explorer and report of a run that was trained here, against its tensors and scalars."""

import json
import runpy
import sys

import cv2
import numpy as np
import pytest
import test_explorer as seen
import test_report
import torch
from conftest import ROOT
from mmengine.config import Config
from runs import tiny_config, train
from torch.nn import functional as F

from plrc_plugin.checkpoints.encoder import load_encoder
from plrc_plugin.datasets.scenes.writing import make_scenes
from plrc_plugin.images.decoding import read_image
from plrc_plugin.models.reading import read_points
from plrc_plugin.visualization import affinity

LABELS = ['random', 'epoch_1']
POINT = (0.3, 0.6)


def call(tool, monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
    runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')


def features(model, path, size):
    """(C, h, w) of the last stage."""
    pixels = cv2.resize(read_image(path), (size, size), interpolation=cv2.INTER_AREA)
    with torch.no_grad():
        return model.backbone(model.data_preprocessor.normalise(torch.from_numpy(pixels)[None]))[
            -1
        ][0]


def check_pages(cfg, images, folder, page, monkeypatch):
    """Makes the three of a run of one epoch in ``folder``/run and compares what they show."""
    cfg.experiment_name = str(folder)
    cfg.visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
    train(cfg)
    cfg.dump(folder / 'config.py')
    checkpoints = ['random', str(folder / 'run' / 'epoch_1.pth')]
    models = [load_encoder(cfg, checkpoint) for checkpoint in checkpoints]
    common = (folder / 'config.py', images)
    paths = sorted(images.glob('*.jpg'))[:2]

    drawn = []
    gallery = affinity.affinity_gallery
    monkeypatch.setattr(
        affinity, 'affinity_gallery', lambda *a, **k: drawn.append(gallery(*a, **k)) or drawn[0]
    )
    call(
        'affinity_maps.py',
        monkeypatch,
        *common,
        '--points',
        f'{POINT[0]},{POINT[1]}',
        '--count',
        2,
        '--size',
        224,
        '--checkpoints',
        *checkpoints,
        '--out',
        folder / 'maps.png',
    )
    monkeypatch.undo()
    shown_maps = [axes.images[0].get_array() for axes in drawn[0].axes if axes.images]
    for i, path in enumerate(paths):
        for j, model in enumerate(models):
            cells = features(model, path, 224)
            anchor = read_points(cells[None], torch.tensor([[POINT]]))[0, 0]
            cosines = torch.cosine_similarity(cells, anchor[:, None, None], dim=0)
            enlarged = F.interpolate(cosines[None, None], (56, 56), mode='bilinear')[0, 0]
            np.testing.assert_allclose(shown_maps[3 * i + 1 + j], enlarged, atol=1e-5)

    call(
        'explorer.py',
        monkeypatch,
        *common,
        '--count',
        2,
        '--checkpoints',
        *checkpoints,
        '--out',
        folder / 'explorer.html',
    )
    page.open(folder / 'explorer.html')
    before = seen.pixels(page, seen.STAGE.format(3))
    page.mouse(seen.STAGE.format(1), 0.2, 0.3, click=True)
    page.mouse(seen.OTHER.format(2), 0.8, 0.6)
    assert (seen.pixels(page, seen.STAGE.format(3)) != before).any()
    stated = float(page.evaluate('document.getElementById("error").textContent'))
    rows = page.evaluate('[...document.querySelectorAll("tbody tr")].map(r => r.innerText)')
    cosines = {label: float(cosine) for label, cosine, _ in (row.split('\t') for row in rows)}
    for label, model in zip(LABELS, models):
        one, other = (features(model, path, 14 * model.stride) for path in paths)
        expected = torch.cosine_similarity(one[:, 4, 2], other[:, 8, 11], dim=0).item()
        assert cosines[label] == pytest.approx(expected, abs=stated + 0.0006)
    assert page.complaints == []

    call('report.py', monkeypatch, folder / 'run', '--out', folder / 'report.html')
    rows = test_report.table((folder / 'report.html').read_text(), 'results')
    (file,) = (folder / 'run').glob('*/vis_data/scalars.json')
    logged = [json.loads(line) for line in file.read_text().splitlines()]
    losses = [entry for entry in logged if 'loss' in entry]
    terms = [name for name in losses[-1] if name.startswith(('loss', 'l_'))]
    assert 'l_m' in terms and 'l_c' in terms
    for name in terms:
        assert float(rows[name][0]) == losses[-1][name]
    page.open(folder / 'report.html')
    head = test_report.table((folder / 'report.html').read_text(), 'runs')
    assert (head['finished'], head['iterations']) == (['yes'], [str(len(losses))])
    told = page.evaluate('document.querySelector("#curves .read").textContent')
    last = losses[-1]
    assert told == 'iteration {}: {:g}'.format(last['step'], float('{:.4g}'.format(last['loss'])))
    assert page.complaints == []
    for name, value in next((e for e in logged if 'loss' not in e), {}).items():
        if '/' in name:
            assert float(rows[name][0]) == value
    return rows


@pytest.mark.long
def test_of_the_demo(browser, tmp_path, monkeypatch):
    scenes = make_scenes(tmp_path / 'scenes', 8, 4, progress=False)
    monkeypatch.setenv('PLRC_SCENES', str(scenes))
    cfg = Config.fromfile(ROOT / 'configs/plrc_demo.py')
    monkeypatch.undo()
    cfg.merge_from_dict(
        {
            'train_cfg.max_epochs': 1,
            'train_cfg.val_interval': 1,
            'train_dataloader.batch_size': 4,
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'default_hooks.logger.interval': 1,
            'model.warmup_epochs': 0,
            'model.queue_size': 64,
        }
    )
    cfg.work_dir = str(tmp_path / 'run')
    rows = check_pages(cfg, scenes / 'val', tmp_path, browser, monkeypatch)
    assert (tmp_path / 'run' / 'best_knn_seg_mIoU_epoch_1.pth').is_file()
    assert (tmp_path / 'run' / 'last_checkpoint').read_text().endswith('/epoch_1.pth')
    assert {'affinity/auc', 'linear_seg/mIoU', 'knn_seg/mIoU'} <= set(rows)


@pytest.mark.real_data
def test_of_a_run_on_photographs(real_data, browser, tmp_path, monkeypatch):
    cfg = tiny_config(
        real_data / 'pretrain',
        tmp_path / 'run',
        **{'train_cfg.max_epochs': 1, 'train_dataloader.dataset.indices': 16},
    )
    images = tmp_path / 'photographs'
    images.mkdir()
    for path in sorted((real_data / 'pretrain').rglob('*.jpg'))[:2]:
        (images / path.name).symlink_to(path)
    check_pages(cfg, images, tmp_path, browser, monkeypatch)
