"""Mistakes in configs: one readable error that names the setting, before the first iteration."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mmengine.hooks import Hook
from runs import make_images, tiny_config, train

from plrc_plugin.errors import SettingsError
from plrc_plugin.registry import HOOKS

VIEWS = 'train_dataloader.dataset.pipeline.0.'
POINTS = 'train_dataloader.dataset.pipeline.1.'
OPTIMIZER = 'optim_wrapper.optimizer.'

# No bool: Python takes it for a number.
words = st.text('abcxyz', min_size=1, max_size=5)
no_number = words | st.none() | st.just([1]) | st.just({})
no_count = st.integers(-(10**6), 0) | st.floats(0.1, 9.9).filter(lambda x: x % 1) | no_number
negative = st.floats(-1e6, -1e-6)
not_positive = negative | st.just(0) | st.just(float('nan')) | no_number
no_share = st.floats(1.001, 1e6) | negative | st.just(float('nan')) | no_number
unknown = words.map(lambda word: 'Unknown' + word)

MISTAKES = {
    **{f'model.{name}': no_count for name in ('embedding_dim', 'queue_size')},
    **{f'model.{name}': no_share for name in ('momentum', 'alpha', 'beta')},
    **{
        f'model.{name}': not_positive
        for name in (
            'temperature',
            'region_contrast.temperature',
            'affinity_distillation.student_temperature',
            'affinity_distillation.teacher_temperature',
        )
    },
    'model.warmup_epochs': negative | no_number,
    'model.strategy': st.integers(4, 9) | no_number,
    'model.negatives': unknown,
    'model.unknown_setting': words,
    'model.type': unknown,
    'model.backbone.depth': st.integers(-5, 17) | no_number,
    'model.backbone.type': unknown,
    'model.backbone.base_channels': no_count,
    'model.backbone.unknown_setting': words,
    'model.backbone.strides': st.just((1, 2)) | st.just((1, 2, 3, 0)) | words,
    **{VIEWS + name: no_share for name in ('jitter_prob', 'grey_prob', 'blur_prob', 'flip_prob')},
    VIEWS + 'size': no_count,
    VIEWS + 'unknown_setting': words,
    VIEWS + 'type': unknown,
    VIEWS + 'photometric': (unknown | no_number).filter(lambda value: value is not None),
    VIEWS + 'scale': st.just((1, 0.2)) | st.just((0, 1)) | st.just((0.2, 2)) | no_number,
    VIEWS + 'ratio': st.just((2, 1)) | st.just((-1, 1)) | no_number,
    VIEWS + 'jitter': st.just((0.4, 0.4, 0.4))
    | st.just((0.4, 0.4, 0.4, 0.9))
    | st.just((-1, 0, 0, 0)),
    VIEWS + 'blur_sigma': st.just((2, 1)) | st.just((0, 0)) | no_number,
    **{
        POINTS + name: no_count
        for name in ('num_regions', 'points_per_region', 'resolution', 'regions.n')
    },
    POINTS + 'missing': unknown,
    POINTS + 'regions.type': unknown,
    POINTS + 'unknown_setting': words,
    'train_dataloader.batch_size': no_count,
    'train_dataloader.num_workers': st.integers(-9, -1),
    'train_dataloader.dataset.data_root': unknown,
    'train_dataloader.sampler.type': unknown,
    'train_dataloader.collate_fn.type': unknown,
    'train_dataloader.unknown_setting': words,
    'train_dataloader.persistent_workers': st.just(True),  # there is none
    'train_cfg.max_epochs': no_count,
    'train_cfg.unknown_setting': words,
    OPTIMIZER + 'lr': negative | no_number,
    OPTIMIZER + 'momentum': negative | words,
    OPTIMIZER + 'weight_decay': negative | words,
    OPTIMIZER + 'type': unknown,
    OPTIMIZER + 'unknown_setting': words,
    'optim_wrapper.accumulative_counts': st.integers(-9, 0) | no_number,
    'optim_wrapper.type': unknown,
    'param_scheduler.0.type': unknown,
    'param_scheduler.0.unknown_setting': words,
    'default_hooks.checkpoint.interval': no_count.filter(lambda x: x != -1),
    'default_hooks.checkpoint.max_keep_ckpts': no_count.filter(lambda x: x != -1),
    'default_hooks.logger.interval': no_count,
    'default_hooks.checkpoint.type': unknown,
    'custom_hooks.1.max_share': no_share,
    'custom_hooks.1.type': unknown,
    'custom_hooks.2.min_std': no_share,
    'custom_hooks.2.window': no_count,
    'custom_hooks.2.action': unknown,
    'randomness.seed': st.integers(-9, -1) | words,
    'log_processor.window_size': no_count,
    'load_from': unknown,
    'optim_wraper': words,
    'train_dataloder': words,
    'custom_hook': words,
    'parm_scheduler': words,
}


@HOOKS.register_module(force=True)
class NoIterationHook(Hook):
    priority = 'HIGHEST'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        raise AssertionError('training began')


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp('data') / 'images', count=8)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr('mmengine.runner.Runner._log_env', lambda *args: None)


def error_of(images, work_dir, options) -> str:
    cfg = tiny_config(images, work_dir, **options)
    cfg.experiment_name = str(work_dir)
    cfg.custom_hooks.append(dict(type='NoIterationHook'))
    with pytest.raises(SettingsError) as caught:
        train(cfg)
    return str(caught.value)


def test_there_are_enough():
    assert len(MISTAKES) >= 70


@pytest.mark.parametrize('setting', MISTAKES)
def test_one_readable_error_before_the_first_iteration(setting, images, tmp_path):

    @settings(
        max_examples=2,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(MISTAKES[setting])
    def check(value):
        message = error_of(images, tmp_path, {setting: value})
        assert '\n' not in message and len(message) < 1000
        name = setting.split('.')[-1]
        if name in ('optim_wraper', 'train_dataloder', 'custom_hook', 'parm_scheduler'):
            assert f'{name} is no setting; did you mean' in message
        else:
            assert (str(value) if name == 'type' else name) in message.lower() + message, message

    check()


def test_nothing_is_wrong_with_the_config_itself(images, tmp_path):
    cfg = tiny_config(images, tmp_path)
    cfg.custom_hooks.append(dict(type='NoIterationHook'))
    with pytest.raises(AssertionError, match='training began'):
        train(cfg)
