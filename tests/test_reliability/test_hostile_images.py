"""More than 300 hostile files crash no worker, leak nothing, stall nothing, and are named."""

import json
import os
import resource
from contextlib import suppress

import pytest
from hostile import make_hostile_images
from runs import final, finish, records, start, tiny_config

from plrc_plugin.images.decoding import DecodingError, read_image
from plrc_plugin.randomness import SampleKey
from plrc_plugin.views.two_views import TwoViews


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp('hostile') / 'images'
    return folder, make_hostile_images(folder)


def test_every_file_is_read_or_refused_for_a_stated_reason(corpus):
    folder, made = corpus
    views = TwoViews(size=24)
    for name, readable in made.items():
        try:
            image = read_image(folder / name)
            assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == 'uint8', name
            results = views(dict(img_path=str(folder / name), sample_key=SampleKey(0, 0, 1)))
            assert all(view.pixels.shape == (24, 24, 3) for view in results['views'])
            refused = False
        except DecodingError as error:
            assert error.reason and '\n' not in error.reason, name
            refused = True
        assert readable is None or readable is not refused, (name, readable)


def test_no_program_is_started(corpus, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f'started: {args}')

    monkeypatch.setattr('subprocess.Popen', refuse)
    monkeypatch.setattr('PIL.EpsImagePlugin.gs_binary', '/bin/gs', raising=False)
    for name in ('0_postscript.jpg', '0_eps.png', '0_icon.png'):
        with pytest.raises(DecodingError, match='not an image in a known format'):
            read_image(corpus[0] / name)


def rss() -> int:
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_nothing_leaks(corpus):
    folder, made = corpus

    def read_all():
        for name in made:
            with suppress(DecodingError):
                read_image(folder / name)
        return rss(), len(os.listdir('/proc/self/fd'))

    read_all()
    memory, files = read_all()
    for _ in range(3):
        last_memory, last_files = read_all()
    assert last_files == files
    assert last_memory - memory < 20e6  # three times 400 files


def test_run_over_hostile_files(corpus, tmp_path):
    """With workers: it ends, every batch is full, and the log names what was skipped and why."""
    folder, made = corpus
    cfg = tiny_config(
        folder,
        tmp_path,
        **{
            'train_dataloader.num_workers': 2,
            'train_dataloader.persistent_workers': True,
            'train_dataloader.batch_size': 16,
            'train_cfg.max_epochs': 1,
        },
    )
    cfg.custom_hooks[1].update(max_share=1.0)
    assert finish(start(cfg)) == ''
    assert final(tmp_path)['model']
    assert len(records(tmp_path)) == len(made) // 16
    log = next(tmp_path.rglob('*.log')).read_text()
    bad = [name for name, readable in made.items() if readable is False]
    named = [name for name in bad if printable(str(folder / name)) in log]
    assert len(named) >= 0.9 * len(bad)  # the last incomplete batch is dropped
    for reason in (
        'not an image in a known format',
        'truncated',
        'not a regular file',
        'DecompressionBomb',
        'No such file',
    ):
        assert reason in log
    good = [name for name, readable in made.items() if readable]
    assert not [name for name in good if f'{name} (' in log]


def printable(path):
    return (
        path if path.isprintable() else path.encode('unicode_escape', 'backslashreplace').decode()
    )


def test_too_many_of_them_end_the_run_with_their_names(corpus, tmp_path):
    cfg = tiny_config(corpus[0], tmp_path)
    error = finish(start(cfg))
    assert error.startswith('RuntimeError') and 'max_share=0.01' in error
    assert json.dumps(error)  # text, whatever the names were
