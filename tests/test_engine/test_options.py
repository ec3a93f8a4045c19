"""Every mistyped option of a config is named before anything is built."""

from collections import OrderedDict

import pytest
from conftest import ROOT
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import nn

from plrc_plugin.engine.options import check_options, explain_unexpected, takes, unmatched_keys
from plrc_plugin.errors import SettingsError

CONFIGS = [
    str(path.relative_to(ROOT))
    for path in sorted((ROOT / 'configs').rglob('*.py'))
    if '_base_' not in path.parts
]
TESTED = dict(
    dataset=dict(type='plrc_plugin.ImageFolder', data_root='x', pipelin=[]), num_workers=0
)
# What is written, and the option that is meant (None: it takes none).
MISTYPED = {
    'default_hooks.checkpoint.intervall': (5, 'interval'),
    'default_hooks.checkpoint.save_bst': ('x', 'save_best'),
    'default_hooks.checkpoint.filenam_tmpl': ('x', 'filename_tmpl'),
    'default_hooks.logger.intervall': (5, 'interval'),
    'default_hooks.param_scheduler.interval': (5, None),
    'default_hooks.chekpoint.interval': (3, 'checkpoint'),
    'custom_hooks.1.max_shar': (2, 'max_share'),
    'custom_hooks.0.x': (1, None),
    'custom_hooks.4.data.image': (3, 'images'),
    'train_dataloader.num_worker': (2, 'num_workers'),
    'train_dataloader.persistent_worker': (True, 'persistent_workers'),
    'train_dataloader.dataset.data_rot': (1, 'data_root'),
    'train_dataloader.dataset.pipeline.0.sise': (3, 'size'),
    'train_dataloader.sampler.shufle': (True, 'shuffle'),
    'train_dataloader.collate_fn.x': (1, None),
    'train_cfg.max_epoch': (3, 'max_epochs'),
    'val_dataloader.dataset.sise': (3, 'size'),
    'val_dataloader.dataset.fit.max_imags': (3, 'max_images'),
    'val_dataloader.num_worker': (2, 'num_workers'),
    'val_evaluator.0.sedes': (3, 'seeds'),
    'val_cfg.momentun': (True, 'momentum'),
    'test_dataloader': (TESTED, 'pipeline'),
    'test_cfg': (dict(type='TestLoop', fp17=1), 'fp16'),
    'test_evaluator': (dict(type='plrc_plugin.AffinityQuality', prefx='x'), 'prefix'),
    'param_scheduler.0.eta_minn': (0, 'eta_min'),
    'optim_wrapper.clip_gard': ({}, 'clip_grad'),
    'optim_wrapper.clip_grad': (dict(max_nrm=3), 'max_norm'),
    'optim_wrapper.accumulative_count': (3, 'accumulative_counts'),
    'optim_wrapper.optimizer.momentun': (0.9, 'momentum'),
    'optim_wrapper.paramwise_cfg': (dict(norm_decay_mul=0), 'norm_decay_mult'),
    'optim_wrapper.paramwise_cfg.custom_keys': ({'backbone': dict(lr_mul=0.1)}, 'lr_mult'),
    'compile': (dict(backend='eagr'), 'eager'),
    'model.queue_sise': (3, 'queue_size'),
    'model.backbone.dept': (18, 'depth'),
    'model.data_preprocessor': (
        dict(type='plrc_plugin.ViewsPreprocessor', channel_last=True),
        'channels_last',
    ),
    'visualizer.vis_backend': ([], 'vis_backends'),
    'visualizer.vis_backends.0.save_dirr': (3, 'save_dir'),
    'log_processor.window_sise': (3, 'window_size'),
    'env_cfg.cudnn_benchmrk': (True, 'cudnn_benchmark'),
    'env_cfg.mp_cfg.mp_start_metod': ('fork', 'mp_start_method'),
    'env_cfg.dist_cfg.backnd': ('nccl', 'backend'),
    'auto_scale_lr.enabel': (True, 'enable'),
    'randomness.sed': (3, 'seed'),
    'custom_imports.import': ([], 'imports'),
    'model_wrapper_cfg': (dict(find_unused_parameter=True), 'find_unused_parameters'),
}


def demo(**options) -> Config:
    cfg = Config.fromfile(ROOT / 'configs' / 'plrc_demo.py')
    cfg.merge_from_dict(options)
    return cfg


@pytest.mark.parametrize('option', MISTYPED)
def test_a_mistyped_option_is_named_with_its_place_and_the_nearest(option):
    value, meant = MISTYPED[option]
    with pytest.raises(SettingsError) as error:
        check_options(demo(**{option: value}))
    message = str(error.value)
    assert (
        message.startswith(option.replace('chekpoint.interval', 'chekpoint'))
        and '\n' not in message
    )
    assert meant is None or f'did you mean {meant}?' in message


def test_of_a_region_source():
    cfg = Config.fromfile(ROOT / 'configs' / 'plrc_in1k.py')
    cfg.merge_from_dict({'train_dataloader.dataset.pipeline.1.regions.m': 3})
    with pytest.raises(SettingsError, match='pipeline.1.regions.m is no option of GridRegions'):
        check_options(cfg)


@pytest.mark.parametrize('config', CONFIGS)
def test_shipped_configs_have_no_unknown_option(config):
    if 'configs/mm' in config:
        pytest.importorskip('mmdet' if 'mmdet' in config else 'mmseg')
    check_options(Config.fromfile(ROOT / config))


@pytest.mark.parametrize(
    'options',
    [
        {'my_learning_rate': 0.1, 'notes': dict(type='none', of='this')},
        {'default_hooks.checkpoint.priority': 'LOW'},
        {'default_hooks.timer': None},
        {'param_scheduler.0.convert_to_iter_based': True},
        {'optim_wrapper.clip_grad': dict(type='value', clip_value=1)},
        {'optim_wrapper.clip_grad': dict(max_norm=1, norm_type=2)},
        {'optim_wrapper': dict(constructor='NobodysConstructor', generator=dict(x=1))},
        {'optim_wrapper.paramwise_cfg': dict(custom_keys={'bias': dict(lr_mult=2)})},
        {'train_dataloader.timeout': 5, 'train_dataloader.prefetch_factor': 3},
        {'train_dataloader.num_batch_per_epoch': 3},
        {'model.backbone': dict(_delete_=True, type='nobody.Backbone', whatever=1)},
        {'train_cfg': dict(_delete_=True, by_epoch=False, max_iters=3)},
        {'visualizer.name': 'mine'},
        {'env_cfg.resource_limit': 4096, 'env_cfg.note': 1},
        {'custom_hooks': [dict(type='TakesAnything', whatever=1)]},
        {'train_cfg.type': lambda **kwargs: None, 'train_cfg.max_epoch': 1},
    ],
)
def test_what_works_is_not_refused(options):
    cfg = demo()
    for key, value in options.items():
        if callable(value):
            cfg._cfg_dict.train_cfg.type = value
        else:
            cfg.merge_from_dict({key: value})
    check_options(cfg)


@HOOKS.register_module(force=True)
class TakesAnything(Hook):
    def __init__(self, **kwargs):
        self.kwargs = kwargs


class Base:
    def __init__(self, base=1):
        pass


class Hands(Base):
    def __init__(self, own=1, **kwargs):
        super().__init__(**kwargs)


class Keeps(Base):
    def __init__(self, own=1, **kwargs):
        super().__init__()
        self.kwargs = kwargs


def test_kwargs_are_followed_to_the_base_and_not_further():
    assert takes(Hands) == {'own', 'base'}
    assert takes(Keeps) is None
    assert takes(Base) == {'base'}


def test_refused_by_the_constructor_of_another_package():
    """Which says neither where nor what is near."""
    cfg = dict(model=dict(type='x', head=dict(type=Base, bas=3)))
    error = TypeError("Base.__init__() got an unexpected keyword argument 'bas'")
    assert explain_unexpected(error, cfg) == (
        'model.head.bas is no option of Base; did you mean base?'
    )
    assert explain_unexpected(ValueError('no')) is None


@pytest.mark.parametrize('package', ['mmdet', 'mmseg'])
def test_transforms_of_other_packages(package):
    """Their default scope finds them, in the loader of the test that training never builds."""
    pytest.importorskip(package)
    name = dict(
        mmdet='mmdet/faster-rcnn_r50-fpn_1x_coco.py',
        mmseg='mmseg/fcn_r50-d16_90k_cityscapes-769x769.py',
    )[package]
    cfg = Config.fromfile(ROOT / 'configs' / name)
    cfg.merge_from_dict({'test_dataloader.dataset.pipeline.1.keep_rato': True})
    with pytest.raises(SettingsError, match='test_dataloader.dataset.pipeline.1.keep_rato is no'):
        check_options(cfg)


def test_keys_that_match_no_parameter_are_named():
    model = nn.Sequential(OrderedDict(backbone=nn.Linear(2, 2), head=nn.Linear(2, 2)))
    keys = {'bakbone': dict(lr_mult=0), 'head.bias': dict(lr_mult=2), 'absolute_pos_embed': {}}
    lines = unmatched_keys(dict(paramwise_cfg=dict(custom_keys=keys)), model)
    assert len(lines) == 2
    assert 'custom_keys.bakbone is in' in lines[0] and 'did you mean backbone?' in lines[0]
    assert lines[1].endswith('changes nothing')
    assert unmatched_keys(dict(type='OptimWrapper'), model) == []
