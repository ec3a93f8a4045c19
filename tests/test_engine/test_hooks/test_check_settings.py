"""Settings that cannot work together end in one line, before training."""

import pytest
from runs import tiny_config, train

from plrc_plugin.errors import SettingsError


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
        ({'train_dataloader.batch_size': 7}, 'do not fill one batch of 7.*lower'),
        ({'train_dataloader.dataset.data_root': 'nowhere'}, "data_root='nowhere' does not exist"),
        ({'train_dataloader.dataset.pipeline.1.regions.n': 0}, 'GridRegions: n must be'),
        ({'train_dataloader.dataset.pipeline.1.points_per_region': 0}, 'points_per_region must be'),
    ],
)
def test_settings_that_cannot_work_end_before_training(options, message, image_folder, tmp_path):
    with pytest.raises(SettingsError, match=message):
        train(tiny_config(image_folder, tmp_path, **options))


def test_warm_up_that_never_ends_is_named(image_folder, tmp_path):
    cfg = tiny_config(image_folder, tmp_path, **{'model.warmup_epochs': 2})
    train(cfg)
    assert (
        'warmup_epochs=2 of train_cfg.max_epochs=2: L_a never takes part'
        in next(tmp_path.rglob('*.log')).read_text()
    )
