"""Values of a wrong type are refused before the run, with the place and what may stand there."""

import pytest

import plrc_plugin.transfer  # noqa: F401
from plrc_plugin.engine.options import check_options
from plrc_plugin.errors import SettingsError
from plrc_plugin.registry import DATASETS, HOOKS, MODELS

FOLDER = dict(type='plrc_plugin.ImageFolder', data_root='photos')
TRUNK = dict(type='plrc_plugin.ResNet', depth=18)


def config(**changes):
    """A config with changes at places such as ``model__symmetric``."""
    cfg = dict(
        model=dict(type='plrc_plugin.PLRC', backbone=dict(TRUNK), queue_size=8),
        train_dataloader=dict(
            batch_size=4,
            dataset=dict(FOLDER, pipeline=[dict(type='plrc_plugin.TwoViews', size=32)]),
        ),
        custom_hooks=[dict(type='plrc_plugin.CollapseHook')],
    )
    for place, value in changes.items():
        part = cfg
        *parts, last = place.split('__')
        for name in parts:
            part = part[int(name) if isinstance(part, list) else name]
        part[last] = value
    return cfg


WRONG = {
    'model__symmetric': ('no', 'True or False'),
    'model__shuffle_bn': ('off', 'True or False'),
    'model__mask_own_keys': ([], 'True or False'),
    'model__embedding_dim': (True, 'an integer'),
    'model__momentum': (float('nan'), 'a number'),
    'model__affinity_distillation': (0, 'a dict or None'),
    'model__backbone__strides': (2, 'a list of integers'),
    'model__data_preprocessor': (
        dict(type='plrc_plugin.ViewsPreprocessor', channels_last='no'),
        'True or False',
    ),
    'model__backbone': (dict(type='plrc_plugin.TimmTrunk', name=50), 'text'),
    'train_dataloader__dataset__data_root': (2012, 'text'),
    'train_dataloader__dataset__shard_names': ('false', 'True or False'),
    'train_dataloader__dataset__pipeline__0__size': ('224', 'an integer'),
    'train_dataloader__dataset__pipeline__0__scale': ('0.2,1', 'a list of numbers'),
    'custom_hooks__0__window': (2.5, 'an integer'),
}


@pytest.mark.parametrize('place', WRONG)
def test_a_value_of_a_wrong_type(place):
    value, meant = WRONG[place]
    with pytest.raises(SettingsError, match=f'must be .*{meant}.*, got') as caught:
        check_options(config(**{place: value}))
    assert place.replace('__', '.') in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'place, value',
    [
        ('model__symmetric', 1),
        ('model__strategy', '2'),
        ('model__momentum', 1),
        ('model__backbone__strides', [1, 2, 2, 1]),
        ('model__embedding_dim', 128.0),  # as 1e2 of the command line is read; its class decides
        ('train_dataloader__dataset__indices', 5),
        ('train_dataloader__dataset__exclude', '*.png'),
        ('train_dataloader__dataset__ann_file', None),
        ('train_dataloader__dataset__pipeline__0__window', 'dtype'),
        ('train_dataloader__dataset__pipeline__0__size', 'auto'),
    ],
)
def test_values_that_can_be_used_are_let_through(place, value):
    check_options(config(**{place: value}))


RANGES = [
    (MODELS, dict(type='plrc_plugin.ViewsPreprocessor', mean=[0.485, 0.456, 0.406]), '123.675'),
    (MODELS, dict(type='plrc_plugin.ViewsPreprocessor', std=[0.229, 0.224, 0.225]), r'\[0, 255\]'),
    (MODELS, dict(type='plrc_plugin.ViewsPreprocessor', std=[58.0, 0.0, 57.0]), 'above 0'),
    (MODELS, dict(type='plrc_plugin.TimmTrunk', name='resnet18', drop_path=2.5), 'drop_path'),
    (MODELS, dict(type='plrc_plugin.PLRC', backbone=TRUNK, strategy='abc'), 'strategy'),
    (HOOKS, dict(type='plrc_plugin.SkippedImagesHook', grace=-1), 'grace'),
    (HOOKS, dict(type='plrc_plugin.PreciseBN', num_iters=0), 'num_iters'),
    (DATASETS, dict(FOLDER, ann_column='path'), 'ann_file'),
    (
        DATASETS,
        dict(type='plrc_plugin.COCOMasks', annotations='a', images='b', max_images=-1),
        'max_images',
    ),
]


@pytest.mark.parametrize('registry, part, said', RANGES)
def test_a_value_that_cannot_be_meant(registry, part, said):
    with pytest.raises(SettingsError, match=said):
        registry.build(dict(part))


def test_images_that_are_not_normalised_may_be_asked_for():
    MODELS.build(dict(type='plrc_plugin.ViewsPreprocessor', mean=[0.0] * 3, std=[1.0] * 3))
