"""Runs on shards equal the run on the folder, bit for bit, also if they are killed and resumed."""

import os

import pytest
from runs import assert_same_run, assert_same_tensors, final, finish, make_images, records, start
from runs import tiny_config as config_of
from shards import LOCAL, make_tar
from stores import BUCKET, environment, s3_server

SETTINGS = {
    'default_hooks.checkpoint.by_epoch': False,
    'default_hooks.checkpoint.interval': 2,
    'train_dataloader.num_workers': 2,
    'train_dataloader.persistent_workers': True,
}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp('data') / 'images')


@pytest.fixture(scope='module')
def whole(images, tmp_path_factory):
    """Work dir of the run on the folder, which nobody interrupts."""
    work_dir = tmp_path_factory.mktemp('whole')
    assert finish(start(config_of(images, work_dir, **SETTINGS))) == ''
    return work_dir


def killed_and_resumed(root, work_dir, **environ):
    """Kills the run at iteration 7 of 10, with its loaders, then lets it go on."""

    def config():
        cfg = config_of(root, work_dir, **SETTINGS)
        cfg.custom_hooks.append(dict(type='DieOnceHook', rank=0, iteration=7))
        return cfg

    assert finish(start(config(), **environ)) == 'killed'
    cfg = config()
    cfg.resume = True
    assert finish(start(cfg, **environ)) == ''


@pytest.mark.parametrize('kind', ['tar', 'parquet'])
def test_killed_runs_on_shards_equal_the_run_on_the_folder(kind, images, whole, tmp_path):
    if kind == 'parquet':
        pytest.importorskip('pyarrow', reason="no pyarrow: install the extra 'parquet'")
    shards = LOCAL[kind](images)
    killed_and_resumed(shards, tmp_path, XDG_CACHE_HOME=str(tmp_path / 'cache'))
    assert_same_run(tmp_path, whole)


@pytest.mark.parametrize('kind', ['folder', 'tar'])
def test_killed_runs_on_a_faulty_store_too(kind, images, whole, tmp_path, monkeypatch):
    for module in ('s3fs', 'moto', 'flask'):
        pytest.importorskip(module, reason=f"no {module}: install the extra 'tests'")
    with s3_server(monkeypatch) as (system, faults):
        path = images if kind == 'folder' else make_tar(images, tmp_path / 'images.tar')
        system.put(str(path), f'{BUCKET}/{path.name}', recursive=kind == 'folder')
        faults.every, faults.kind = 9, 'cut'
        port = int(os.environ['AWS_ENDPOINT_URL'].rpartition(':')[2])
        killed_and_resumed(
            f's3://{BUCKET}/{path.name}',
            tmp_path / 'run',
            XDG_CACHE_HOME=str(tmp_path / 'cache'),
            **environment(port),
        )
        assert faults.hits
    reference, seen = records(whole), records(tmp_path / 'run')
    assert {n: set(lines) for n, lines in seen.items()} == {
        n: set(lines) for n, lines in reference.items()
    }
    # A queue knows images by their paths, and an address is another one.
    one, other = (without_ids(final(work_dir)) for work_dir in (whole, tmp_path / 'run'))
    assert_same_tensors(one, other)


def without_ids(state):
    model = {name: value for name, value in state['model'].items() if not name.endswith('.ids')}
    return {**state, 'model': model}
