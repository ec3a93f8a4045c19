"""Images without regions of their own are named and counted."""

import re

import numpy as np
import pytest
from runs import tiny_config, train

from plrc_plugin.errors import SettingsError


def config(images, work_dir, missing):
    cfg = tiny_config(
        images,
        work_dir,
        **{'train_dataloader.batch_size': 3, 'train_cfg.max_epochs': 1, 'model.warmup_epochs': 0},
    )
    cfg.experiment_name = str(work_dir)
    points = cfg.train_dataloader.dataset.pipeline[1]
    points.regions = dict(type='LabelFiles', suffix='.npz')
    points.missing = missing
    return cfg


def test_they_are_counted_in_the_log(image_folder, tmp_path):
    for name in ('a', 'b', 'n01/c', 'n01/d'):
        np.savez(image_folder / f'{name}.npz', np.arange(90 * 120).reshape(90, 120) // 2700)
    train(config(image_folder, tmp_path / 'grid', 'grid'))
    text = next((tmp_path / 'grid').rglob('*.log')).read_text()
    assert len(re.findall(r"no regions for '.*(e.png|f.PNG)': it gets a 4 x 4 grid", text)) == 2
    assert '2 of 6 images read in this epoch had no regions' in text
    with pytest.raises(SettingsError, match=r'LabelFiles: \S*(e.png|f.PNG) has no label map'):
        train(config(image_folder, tmp_path / 'error', 'error'))
