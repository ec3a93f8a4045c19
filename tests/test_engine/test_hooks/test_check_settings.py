"""Settings that cannot work together end in one line, before training."""

import pytest
from runs import tiny_config, train

from plrc_plugin.errors import SettingsError

CHECKS = dict(type='plrc_plugin.CheckSettingsHook')
LOCAL = dict(type='LocalVisBackend', save_dir='s3://b/x')


@pytest.mark.parametrize(
    'options, message',
    [
        ({'train_dataloader.dataset.pipeline.0.size': 8}, 'size=8 is smaller than the stride 16'),
        (
            {'train_cfg': dict(type='IterBasedTrainLoop', max_iters=2, _delete_=True)},
            'warmup_epochs=1 counts epochs.*ResumableTrainLoop',
        ),
        (
            {
                'train_dataloader.dataset.pipeline.0.photometric': 'device',
                'model.data_preprocessor': dict(type='BaseDataPreprocessor'),
            },
            "photometric='device'.*ViewsPreprocessor.*is a BaseDataPreprocessor",
        ),
        (
            {'train_dataloader.batch_size': 1},
            'batch_size=1 .* nothing to shuffle.*shuffle_bn=False',
        ),
        (
            {'custom_hooks': [dict(type='EarlyStoppingHook', monitor='loss'), CHECKS]},
            'EarlyStoppingHook follows a metric of validation, and the config has none.*val_cfg',
        ),
        (
            {'param_scheduler': [dict(type='ReduceOnPlateauLR', monitor='loss')]},
            'ReduceOnPlateauLR follows a metric of validation, and the config has none',
        ),
        (
            {'visualizer': dict(type='Visualizer', vis_backends=[LOCAL])},
            'visualizer.vis_backends.0.save_dir=s3://b/x: .*Give a folder',
        ),
        (
            {'activation_checkpointing': ['backbone.layer1']},
            'activation_checkpointing=.*TrunkOptionsHook.*recompute',
        ),
        (
            {'optim_wrapper.optimizer': dict(type='LBFGS', lr=0.1, _delete_=True)},
            'optimizer.type=LBFGS computes losses again within a step.*SGD',
        ),
        (
            {'optim_wrapper.optimizer': dict(type='SparseAdam', lr=0.1, _delete_=True)},
            'optimizer.type=SparseAdam takes sparse gradients.*SGD',
        ),
        (
            {'optim_wrapper.clip_grad': dict(max_norm=-1)},
            'clip_grad.max_norm must be a number above 0, got -1',
        ),
        (
            {'optim_wrapper.clip_grad': dict(type='value', clip_value=0)},
            'clip_grad.clip_value must be a number above 0, got 0',
        ),
        ({'train_dataloader.batch_size': 7}, 'do not fill one batch of 7.*lower'),
        ({'train_dataloader.dataset.data_root': 'nowhere'}, "data_root='nowhere' does not exist"),
        ({'train_dataloader.dataset.pipeline.1.regions.n': 0}, 'GridRegions: n must be'),
        ({'train_dataloader.dataset.pipeline.1.points_per_region': 0}, 'points_per_region must be'),
    ],
)
def test_settings_that_cannot_work_end_before_training(options, message, image_folder, tmp_path):
    with pytest.raises(SettingsError, match=message):
        cfg = tiny_config(image_folder, tmp_path, **options)
        cfg.visualizer = options.get('visualizer', cfg.visualizer)
        train(cfg)


def test_what_will_not_happen_is_named(image_folder, tmp_path):
    options = {
        'model.warmup_epochs': 2,
        'default_hooks.checkpoint.save_best': 'knn/mIoU',
        'default_hooks.checkpoint.interval': 5,
        'default_hooks.checkpoint.save_last': False,
    }
    train(tiny_config(image_folder, tmp_path, **options))
    log = next(tmp_path.rglob('*.log')).read_text()
    assert 'warmup_epochs=2 of train_cfg.max_epochs=2: L_a never takes part' in log
    assert "save_best=['knn/mIoU']: no best checkpoint is kept, as it needs validation" in log
    assert 'no checkpoint will be written: default_hooks.checkpoint.interval=5 of 2 epochs' in log
