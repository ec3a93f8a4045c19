"""Runs on 16-bit images of five bands: trained, resumed, probed, exported, and fine-tuned."""

import copy
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import torch
from conftest import ROOT
from mmengine.registry import RUNNERS
from PIL import Image
from runs import (
    assert_same_run,
    assert_same_tensors,
    final,
    finish,
    records,
    start,
    tiny_config,
    train,
)
from shards import make_tar

from plrc_plugin.checkpoints.reading_record import find_record, write_record
from plrc_plugin.config_files import read_config
from plrc_plugin.errors import SettingsError
from plrc_plugin.recipe.windows import measure_window, resolve_windows

STEPS = 'train_dataloader.dataset.pipeline.0'
FIVE = {f'{STEPS}.channels': 5, f'{STEPS}.window': 'percentiles', 'model.backbone.in_channels': 5}


def make_rasters(folder, count=22, side=60, channels=5):
    """Tiled TIFFs of 12 bits in 16, each band on a level of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        small = rng.uniform(0, 1, (6, 6, channels))
        values = np.kron(small, np.ones((side // 6, side // 6, 1)))
        values = (values * 800 + 500 * np.arange(channels)).astype(np.uint16)
        tifffile.imwrite(folder / f'{i:02}.tif', values, photometric='minisblack',
                         planarconfig='contig', tile=(32, 32), compression='zlib')  # fmt: skip
    return folder


@pytest.fixture(scope='module')
def rasters(tmp_path_factory):
    return make_rasters(tmp_path_factory.mktemp('rasters') / 'images')


@pytest.fixture(scope='module')
def whole(rasters, tmp_path_factory):
    """The work dir of a run of two epochs."""
    work_dir = tmp_path_factory.mktemp('runs') / 'whole'
    assert finish(start(tiny_config(rasters, work_dir, **FIVE))) == ''
    return work_dir


def log_of(work_dir):
    return ''.join(path.read_text() for path in work_dir.glob('*/*.log'))


def test_the_window_is_that_of_the_data_and_is_kept(rasters, whole):
    record = json.loads((whole / 'reading.json').read_text())
    values = np.concatenate(
        [tifffile.imread(p).reshape(-1, 5) for p in sorted(rasters.glob('*.tif'))]
    )
    np.testing.assert_allclose(record['window'], np.percentile(values, (0.5, 99.5), axis=0).T)
    assert record['channels'] == 5
    log = log_of(whole)
    assert 'percentiles 0.5 and 99.5 of 79200 values of 22 images of uint16' in log
    low, high = record['window'][4]
    assert f'channel 4: {low:.6g} to {high:.6g} become 0 to 255' in log
    assert 'sizes       60 x 60, all of them (of 22 looked at)' in log
    assert 'kinds       22 TIFF, 5 x uint16' in log
    cfg = read_config(next(whole.glob('*.py')))
    assert cfg.train_dataloader.dataset.pipeline[0].window == record['window']
    checkpoint = torch.load(next(whole.glob('epoch_2.pth')), weights_only=False)
    assert checkpoint['meta']['reading'] == record
    assert checkpoint['state_dict']['backbone.conv1.weight'].shape[1] == 5


@pytest.mark.slow
def test_a_resumed_run_is_the_same(rasters, whole, tmp_path):
    first = tiny_config(rasters, tmp_path / 'run', **FIVE, **{'train_cfg.max_epochs': 1})
    assert finish(start(first)) == ''
    more = tiny_config(rasters, tmp_path / 'run', **FIVE)
    more.resume = True
    assert finish(start(more)) == ''
    resumed, reference = records(tmp_path / 'run'), records(whole)
    assert resumed == reference  # losses and views, every bit
    assert_same_tensors(final(tmp_path / 'run')['model'], final(whole)['model'])
    other = tiny_config(rasters, tmp_path / 'run', **{**FIVE, f'{STEPS}.window': (0, 9)})
    other.resume = True
    assert 'the run to resume reads 5 channels' in finish(start(other))


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize('kind', ['folder', 'tar'])
def test_a_killed_run_is_the_same(kind, rasters, whole, tmp_path):
    """Killed at iteration 7 of 10, after a checkpoint at 6, with its loader's workers."""
    root = rasters if kind == 'folder' else make_tar(rasters, rasters.with_suffix('.tar'))

    def config():
        cfg = tiny_config(root, tmp_path / 'run', **FIVE, **{
            'default_hooks.checkpoint.by_epoch': False, 'default_hooks.checkpoint.interval': 3,
            'train_dataloader.num_workers': 2,
        })  # fmt: skip
        cfg.custom_hooks.append(dict(type='DieOnceHook', rank=0, iteration=7))
        return cfg

    assert finish(start(config())) == 'killed'
    cfg = config()
    cfg.resume = True
    assert finish(start(cfg)) == ''
    assert len(records(tmp_path / 'run')[6]) == 2, 'iteration 6 ran before and after'
    assert_same_run(tmp_path / 'run', whole)


def test_a_resumed_run_keeps_its_window_though_the_images_have_changed(rasters, tmp_path):
    cfg = tiny_config(rasters, tmp_path, **FIVE)
    write_record(tmp_path, dict(channels=5, window=[[1, 2]] * 5, how='of before'))
    assert resolve_windows(copy.deepcopy(cfg), resumed=True)['window'] == [[1, 2]] * 5
    assert resolve_windows(copy.deepcopy(cfg))['window'][0][1] > 100
    (tmp_path / 'reading.json').write_text('{"channels": 5')
    with pytest.raises(SettingsError, match='reading.json is damaged'):
        resolve_windows(copy.deepcopy(cfg), resumed=True)


@pytest.mark.slow
def test_workers_change_nothing(rasters, whole, tmp_path):
    cfg = tiny_config(rasters, tmp_path, **FIVE, **{'train_dataloader.num_workers': 2})
    assert finish(start(cfg)) == ''
    assert_same_run(tmp_path, whole)


def make_masks(folder):
    """VOC's layout with TIFFs: a bright square is class 1."""
    for name in ('JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation'):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(1)
    for split, count in dict(train=6, val=4).items():
        names = [f'{split}{i}' for i in range(count)]
        (folder / 'ImageSets/Segmentation' / f'{split}.txt').write_text('\n'.join(names))
        for name in names:
            mask = np.zeros((64, 64), np.uint8)
            y, x = rng.integers(0, 32, 2)
            mask[y : y + 32, x : x + 32] = 1
            values = rng.uniform(0, 300, (64, 64, 5)) + 900.0 * mask[..., None]
            values += 500 * np.arange(5)
            tifffile.imwrite(folder / 'JPEGImages' / f'{name}.tif', values.astype(np.uint16),
                             photometric='minisblack', planarconfig='contig')  # fmt: skip
            Image.fromarray(mask).save(folder / 'SegmentationClass' / f'{name}.png')
    return folder


def probes(root):
    masks = dict(type='plrc_plugin.VOCMasks', data_root=str(root), suffix='.tif',
                 classes=('background', 'square'))  # fmt: skip
    return dict(
        val_cfg=dict(type='plrc_plugin.ProbeLoop', statistics=8, statistics_size=64),
        val_dataloader=dict(
            batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
            dataset=dict(type='plrc_plugin.ProbeCells', size=64, cells=8,
                         fit=dict(masks, split='train'), score=dict(masks, split='val')),
        ),
        val_evaluator=[dict(type='plrc_plugin.KNNSegmentationProbe', k=5)],
        custom_hooks=[dict(type='RecordHook'), dict(
            type='plrc_plugin.AffinityHook', size=64, interval=5,
            data=dict(masks, split='train'), count=1)],
    )  # fmt: skip


@pytest.mark.slow
def test_probes_read_images_as_training_does(rasters, whole, tmp_path):
    masks = make_masks(tmp_path / 'masks')
    cfg = tiny_config(rasters, tmp_path / 'run', **FIVE)
    for name, value in probes(masks).items():
        cfg[name] = value
    runner = train(cfg)
    inside = runner.val_loop.dataloader.dataset
    window = json.loads((whole / 'reading.json').read_text())['window']
    assert [list(pair) for pair in inside.parts[0].open.reading.windows] == window
    assert inside[0]['pixels'].shape == (64, 64, 5)
    assert inside[0]['pixels'].dtype == np.float32
    scores = runner.message_hub.get_scalar('val/knn_seg/mIoU').data[0]
    assert np.isfinite(scores).all() and max(scores) > 40  # of two classes, guessed: 33
    config = next((tmp_path / 'run').glob('*.py'))
    found = subprocess.run(
        [sys.executable, ROOT / 'tools/probe.py', config, '--checkpoints', tmp_path / 'run',
         '--probes',
         'KNNSegmentationProbe', '--seeds', '1', '--statistics', '4', '--statistics-size', '64'],
        capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert 'knn_seg/mIoU' in found.stdout


@pytest.mark.slow
def test_an_export_tells_how_its_images_are_read(whole, tmp_path):
    subprocess.run(
        [sys.executable, ROOT / 'tools/export_checkpoint.py', whole / 'epoch_2.pth',
         tmp_path / 'trunk.pth', '--to', 'mmseg'],
        check=True, env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )  # fmt: skip
    record = json.loads((whole / 'reading.json').read_text())
    for place in (tmp_path / 'trunk.pth', whole, whole / 'epoch_1.pth', whole / 'reading.json'):
        assert find_record(place) == record


@pytest.mark.slow
def test_the_trunk_goes_on_in_a_segmenter(whole, tmp_path):
    pytest.importorskip('mmcv._ext', reason='needs mmcv with its operators')
    pytest.importorskip('mmseg', reason='needs mmseg')
    masks = make_masks(tmp_path / 'masks')
    cfg = read_config(ROOT / 'configs/mmseg/fcn_r50_rasters.py')
    names = dict(img_path='JPEGImages', seg_map_path='SegmentationClass')
    cfg.merge_from_dict({
        'pretrained': str(whole / 'epoch_2.pth'), 'work_dir': str(tmp_path / 'run'),
        'model.backbone.depth': 18, 'model.backbone.base_channels': 4,
        'model.backbone.stem_channels': 4, 'model.backbone.in_channels': 5,
        'model.data_preprocessor.size': (48, 48),
        'model.decode_head.in_channels': 32, 'model.decode_head.channels': 8,
        'model.decode_head.num_classes': 2, 'train_cfg.max_iters': 6, 'train_cfg.val_interval': 6,
        'default_hooks.checkpoint.interval': 6, 'default_hooks.logger.interval': 1,
    })  # fmt: skip
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.num_workers, loader.persistent_workers = 0, False
        loader.dataset.data_root = str(masks)
        loader.dataset.data_prefix = names
        loader.dataset.img_suffix = '.tif'
        loader.dataset.metainfo = dict(classes=('background', 'square'), palette=[[0] * 3, [9] * 3])
        loader.dataset.pipeline[0].like = str(whole / 'epoch_2.pth')
    cfg.train_dataloader.batch_size = 2
    cfg.train_dataloader.dataset.pipeline[2].scale = (64, 64)
    cfg.train_dataloader.dataset.pipeline[3].crop_size = (48, 48)
    runner = RUNNERS.build(cfg)
    sample = runner.train_dataloader.dataset[0]
    assert sample['inputs'].shape == (5, 48, 48) and sample['inputs'].is_floating_point()
    runner.train()
    log = log_of(tmp_path / 'run')
    assert 'trunk of' in log and 'not compared' not in log
    assert np.isfinite(runner.message_hub.get_scalar('train/loss').data[0]).all()


@pytest.mark.slow
def test_the_trunk_goes_on_in_a_detector(whole, tmp_path):
    pytest.importorskip('mmcv._ext', reason='needs mmcv with its operators')
    pytest.importorskip('mmdet', reason='needs mmdet')
    masks = make_masks(tmp_path / 'masks')
    for split, name in dict(train='train_100', val='test').items():
        images, boxes = [], []
        for number, path in enumerate(sorted((masks / 'JPEGImages').glob(f'{split}*.tif'))):
            mask = np.asarray(Image.open(masks / 'SegmentationClass' / f'{path.stem}.png'))
            y, x = (int(places.min()) for places in np.nonzero(mask))
            images.append(dict(id=number, file_name=path.name, width=64, height=64))
            boxes.append(dict(id=number + 1, image_id=number, category_id=1, bbox=[x, y, 32, 32],
                              area=1024, iscrowd=0))  # fmt: skip
        categories = [dict(id=1, name='square')]
        (masks / f'{name}.json').write_text(
            json.dumps(dict(images=images, annotations=boxes, categories=categories))
        )
    cfg = read_config(ROOT / 'configs/mmdet/faster-rcnn_last-map_photos.py')
    cfg.merge_from_dict({
        'pretrained': str(whole / 'epoch_2.pth'), 'work_dir': str(tmp_path / 'run'),
        'model.backbone.depth': 18, 'model.backbone.base_channels': 4,
        'model.backbone.in_channels': 5, 'model.neck.in_channels': [32],
        'model.data_preprocessor.mean': [114.495], 'model.data_preprocessor.std': [57.63],
        'model.data_preprocessor.bgr_to_rgb': False, 'model.roi_head.bbox_head.num_classes': 1,
        'train_cfg.max_iters': 4, 'train_cfg.val_interval': 4, 'default_hooks.logger.interval': 1,
        'val_evaluator.ann_file': str(masks / 'test.json'),
    })  # fmt: skip
    cfg.train_dataloader.batch_size = 2
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.num_workers, loader.persistent_workers = 0, False
        loader.dataset.data_root = str(masks)
        loader.dataset.data_prefix = dict(img='JPEGImages/')
        loader.dataset.metainfo = dict(classes=('square',))
        for step in loader.dataset.pipeline:
            if step['type'] == 'LoadImageFromFile':
                step.update(type='plrc_plugin.LoadRaster', like=str(whole))
            elif step['type'] == 'Resize':
                step.update(scale=(96, 96))
    runner = RUNNERS.build(cfg)
    sample = runner.train_dataloader.dataset[0]
    assert sample['inputs'].shape == (5, 96, 96) and sample['inputs'].is_floating_point()
    runner.train()
    log = log_of(tmp_path / 'run')
    assert 'trunk of' in log and 'not compared' not in log
    assert np.isfinite(runner.message_hub.get_scalar('train/loss').data[0]).all()
    assert 'val/coco/bbox_mAP' in runner.message_hub.log_scalars


# ------------------------------------------------------------------ windows


def folder_config(folder, **options):
    return dict(type='plrc_plugin.ImageFolder', data_root=str(folder), pipeline=[], **options)


def test_windows_by_dtype_and_by_percentiles(rasters):
    assert measure_window(folder_config(rasters), 5, 'dtype').window == [[0, 65535]]
    wide = measure_window(folder_config(rasters), 5, dict(percentiles=(0, 100), images=3))
    assert wide.how.endswith('3 images of uint16')
    narrow = measure_window(folder_config(rasters), 5, dict(percentiles=(10, 90), images=3))
    assert all(a[0] < b[0] < b[1] < a[1] for a, b in zip(wide.window, narrow.window))
    with pytest.raises(SettingsError, match='0 <= low < high <= 100'):
        measure_window(folder_config(rasters), 5, dict(percentiles=(90, 10)))
    with pytest.raises(SettingsError, match='22 state none: choose one'):
        measure_window(folder_config(rasters), 5, 'dicom')


@pytest.mark.faults
@pytest.mark.parametrize('window', ['percentiles', 'dtype'])
def test_mixed_depths_are_one_line(window, tmp_path):
    make_rasters(tmp_path / 'a', 4)
    for path in sorted((tmp_path / 'a').glob('*.tif'))[:1]:
        values = (tifffile.imread(path) >> 4).astype(np.uint8)
        tifffile.imwrite(path, values, photometric='minisblack', planarconfig='contig')
    with pytest.raises(SettingsError, match='different depths: 3 of uint16, 1 of uint8') as error:
        measure_window(folder_config(tmp_path / 'a'), 5, window)
    assert '\n' not in str(error.value)


@pytest.mark.faults
def test_other_channels_and_broken_files_are_left_out_or_stop_the_measurement(rasters, tmp_path):
    folder = make_rasters(tmp_path / 'a', 6)
    (folder / '00.tif').write_bytes((folder / '00.tif').read_bytes()[:300])
    assert len(measure_window(folder_config(folder), 5).window) == 5
    with pytest.raises(SettingsError, match='it has 5 channels, and channels=4 are declared'):
        measure_window(folder_config(folder), 4)
    floats = tmp_path / 'f'
    floats.mkdir()
    values = np.full((9, 9), np.nan, np.float32)
    tifffile.imwrite(floats / 'a.tif', values)
    with pytest.raises(SettingsError, match='hold no value that was measured'):
        measure_window(folder_config(floats), 1)
    values[0] = np.arange(9)
    tifffile.imwrite(floats / 'a.tif', values)
    assert measure_window(folder_config(floats), 1, dict(percentiles=(0, 100))).window == [[0, 8]]
    with pytest.raises(SettingsError, match='have no range of their own'):
        measure_window(folder_config(floats), 1, 'dtype')


@pytest.mark.faults
@pytest.mark.parametrize('options, match', [
    ({f'{STEPS}.channels': 4}, 'takes 5 channels'),
    ({'model.backbone.in_channels': 3}, 'takes 3 channels'),
    ({f'{STEPS}.window': None}, 'needs a window of values'),
    ({f'{STEPS}.window': (0, 1, 2)}, 'window must be'),
    ({f'{STEPS}.where': 'device'}, "where='device' is for 8-bit RGB"),
    ({f'{STEPS}.photometric': 'moco_v2'}, 'the step ColorJitter is for 8-bit RGB'),
    ({'model.data_preprocessor': dict(type='plrc_plugin.ViewsPreprocessor', mean=[1.0] * 3)},
     'give one for each'),
])  # fmt: skip
def test_settings_that_do_not_fit_are_one_line(options, match, rasters, tmp_path):
    cfg = tiny_config(rasters, tmp_path, **{**FIVE, f'{STEPS}.window': (0, 3000), **options})
    with pytest.raises(SettingsError, match=match) as error:
        train(cfg)
    assert '\n' not in str(error.value)
