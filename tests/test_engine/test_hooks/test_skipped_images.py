"""Images that cannot be decoded are named, counted, and too many of them stop the run."""

import pytest
from runs import records, tiny_config, train


def config(images, work_dir):
    cfg = tiny_config(images, work_dir, **{'train_dataloader.batch_size': 2})
    cfg.experiment_name = str(work_dir)
    return cfg


def test_they_are_logged_once_and_too_many_stop_the_run(image_folder, tmp_path):
    (image_folder / 'a.png').write_bytes(b'broken')
    train(config(image_folder, tmp_path / 'a'))
    assert len(records(tmp_path / 'a')) == 6  # the batches stayed full
    text = next((tmp_path / 'a').rglob('*.log')).read_text()
    assert text.count('skipped image') == 1 and 'a.png (not an image' in text
    assert '1 images could not be decoded and were replaced' in text
    cfg = config(image_folder, tmp_path / 'b')
    cfg.custom_hooks[1].update(max_share=0.01, grace=0)
    with pytest.raises(RuntimeError, match=r'(?s)max_share=0.01.*a\.png: not an image'):
        train(cfg)
