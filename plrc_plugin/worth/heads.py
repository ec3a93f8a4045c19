"""The detector or segmenter with which a trunk is fine-tuned: its last map, and a head on it."""

from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Optional

import torch
from mmengine.config import Config

from plrc_plugin.checkpoints.input_style import InputStyle
from plrc_plugin.config_files import read_config, shipped
from plrc_plugin.errors import SettingsError
from plrc_plugin.models.reading import last_map
from plrc_plugin.registry import MODELS
from plrc_plugin.worth.labels import BOXES
from plrc_plugin.worth.writing import LISTS

PACKAGES = {BOXES: 'mmdet', 'masks': 'mmseg'}
CONFIGS = {BOXES: 'faster-rcnn_last-map_photos.py', 'masks': 'fcn_last-map_photos.py'}
# Of images that a step sees, in all processes together.
BATCH, BATCH_CPU = 16, 4
SIDE, SIDE_CPU = 800, 320


class Trunk(NamedTuple):
    """A trunk for fine-tuning: its config, its last map, and the input that it expects."""

    config: dict
    channels: int
    stride: int
    style: InputStyle


def finetuned_trunk(config: dict) -> Trunk:
    """Returns the trunk of pre-training for a detector: a ResNet has its last stage at stride
    16."""
    config = dict(config)
    if str(config['type']).rpartition('.')[2] == 'ResNet':
        config['strides'] = (1, 2, 2, 1)
    trunk = MODELS.build(config).eval()
    side = 128
    with torch.no_grad():
        features = last_map(trunk(torch.zeros(1, 3, side, side)))
    style = getattr(trunk, 'input_style', InputStyle())
    return Trunk(config, features.shape[1], side // features.shape[-1], style)


def head_config(
    kind: str,
    labels: Path,
    classes: tuple[str, ...],
    trunk: Trunk,
    side: int,
    gpu: bool,
    gpus: int = 1,
    keep_statistics: bool = True,
    options: Optional[dict] = None,
) -> Config:
    """Returns a config of fine-tuning on 100% of the labels.

    Args:
        kind: of the labels.
        labels: their folder, of :func:`~plrc_plugin.worth.writing.write_labels`.
        classes: names of the classes, without the background.
        trunk: the trunk.
        side: median of the shorter sides of the labelled images, in pixels.
        gpu: whether there is a GPU.
        gpus: number of processes of a run.
        keep_statistics: whether batch norm keeps the statistics of the checkpoint. If training
            started from random weights, its statistics over crops are replaced by those of whole
            images.
        options: settings that replace those of the config.

    Raises:
        SettingsError: if mmdet or mmseg is missing.
    """
    package = PACKAGES[kind]
    cfg = read_config(shipped('configs', package, CONFIGS[kind]))
    side = max(64, min(side, SIDE if gpu else SIDE_CPU) // 32 * 32)
    batch = max(1, (BATCH if gpu else BATCH_CPU) // gpus)
    cfg.merge_from_dict(_common(trunk, labels, batch, gpu))
    cfg.model.backbone = trunk.config
    (_as_detector if kind == BOXES else _as_segmenter)(cfg, labels, classes, trunk, side)
    if keep_statistics:
        cfg.custom_hooks.append(dict(type='plrc_plugin.KeepTrunkStatistics'))
    else:
        cfg.custom_hooks.append(dict(type='plrc_plugin.PreciseBN', num_iters=20))
    cfg.merge_from_dict(options or {})
    return cfg


def set_length(cfg: Config, iterations: int) -> None:
    """Gives a config its number of iterations, in place."""
    warmup = max(2, iterations // 20)
    cfg.train_cfg.max_iters = cfg.train_cfg.val_interval = iterations
    cfg.param_scheduler[0].end = cfg.param_scheduler[1].begin = warmup
    cfg.param_scheduler[1].end = iterations
    cfg.default_hooks.checkpoint.interval = max(1, min(500, iterations // 4))


def part_option(kind: str, part: str) -> str:
    """Returns the ``--cfg-options`` that choose a part of the labels."""
    file = f'{part}.json' if kind == BOXES else str(LISTS / f'{part}.txt')
    return f'train_dataloader.dataset.ann_file={file}'


def check_installed(kind: str) -> None:
    """Raises SettingsError if a library of fine-tuning is missing."""
    package = PACKAGES[kind]
    try:
        import_module('mmcv._ext')
        import_module(f'{package}.models')
    except ImportError as error:
        extra = 'det' if package == 'mmdet' else 'seg'
        raise SettingsError(
            f'fine-tuning on {kind} needs {package} and mmcv with its operators ({error}): pip '
            f"install --no-build-isolation 'plrc_plugin[onedl-{extra}]', or compare frozen trunks "
            'alone with --only frozen'
        ) from error


def _common(trunk: Trunk, labels: Path, batch: int, gpu: bool) -> dict[str, Any]:
    settings: dict[str, Any] = {
        'model.data_preprocessor.mean': list(trunk.style.mean),
        'model.data_preprocessor.std': list(trunk.style.std),
        'model.data_preprocessor.bgr_to_rgb': trunk.style.order == 'RGB',
        'train_dataloader.batch_size': batch,
    }
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        settings[f'{loader}.num_workers'] = 2 if gpu else 0
        settings[f'{loader}.persistent_workers'] = gpu
        settings[f'{loader}.dataset.data_root'] = str(labels)
    return settings


def _as_detector(cfg: Config, labels: Path, classes: tuple, trunk: Trunk, side: int) -> None:
    model = cfg.model
    model.neck.in_channels = [trunk.channels]
    model.rpn_head.anchor_generator.strides = [trunk.stride]
    model.rpn_head.anchor_generator.scales = [s * 16 // trunk.stride for s in (2, 4, 8, 16)]
    model.roi_head.bbox_roi_extractor.featmap_strides = [trunk.stride]
    model.roi_head.bbox_head.num_classes = len(classes)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = cfg[name].dataset
        dataset.metainfo = dict(classes=classes)
        next(s for s in dataset.pipeline if s.type == 'Resize').scale = (side * 1333 // 800, side)
    for name in ('val_evaluator', 'test_evaluator'):
        cfg[name].ann_file = str(labels / 'test.json')


def _as_segmenter(cfg: Config, labels: Path, classes: tuple, trunk: Trunk, side: int) -> None:
    crop = (min(side, 512), min(side, 512))
    names = ('background', *classes)
    colours = [[(i * k) % 256 for k in (67, 131, 199)] for i in range(len(names))]
    cfg.crop_size = cfg.model.data_preprocessor.size = crop
    cfg.model.data_preprocessor.test_cfg = dict(size_divisor=32)
    cfg.model.decode_head.update(in_channels=trunk.channels, num_classes=len(names))
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = cfg[name].dataset
        dataset.metainfo = dict(classes=names, palette=colours)
        for step in dataset.pipeline:
            if step.type in ('RandomResize', 'Resize'):
                step.scale = (4 * side, side)
            if step.type == 'RandomCrop':
                step.crop_size = crop
