"""Checkpoints reach folders of file systems that can do less than Linux' own."""

import errno
import os
import stat

import pytest

from plrc_plugin.checkpoints.work_dir import WRITING, check_folder, publish
from plrc_plugin.engine.hooks import AtomicCheckpointHook
from plrc_plugin.errors import SettingsError


def no_open_of_folders(monkeypatch, number):
    """Windows."""
    real = os.open

    def fails(path, *args, **kwargs):
        if os.path.isdir(path):
            raise OSError(number, os.strerror(number), path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, 'open', fails)


def no_sync(monkeypatch, number, files):
    """Some shares and virtual machines, of folders; some FUSE mounts, of files too."""
    real = os.fsync

    def fails(descriptor):
        if files or stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        return real(descriptor)

    monkeypatch.setattr(os, 'fsync', fails)


@pytest.mark.parametrize('number', [errno.EACCES, errno.EPERM, errno.EISDIR, errno.EINVAL])
def test_folders_that_cannot_be_opened(number, tmp_path, monkeypatch):
    no_open_of_folders(monkeypatch, number)
    (tmp_path / f'a{WRITING}').write_text('whole')
    publish(str(tmp_path / 'a'))
    assert (tmp_path / 'a').read_text() == 'whole'
    check_folder(str(tmp_path / 'new' / 'deep'), 'work_dir')
    assert not os.listdir(tmp_path / 'new' / 'deep')


@pytest.mark.parametrize('files', [False, True])
@pytest.mark.parametrize('number', [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EBADF])
def test_folders_and_files_that_cannot_be_synced(number, files, tmp_path, monkeypatch):
    no_sync(monkeypatch, number, files)
    (tmp_path / f'a{WRITING}').write_text('whole')
    publish(str(tmp_path / 'a'))
    assert (tmp_path / 'a').read_text() == 'whole'


@pytest.mark.parametrize('number', [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fails_is_no_file_system_that_cannot(number, tmp_path, monkeypatch):
    no_sync(monkeypatch, number, files=True)
    (tmp_path / f'a{WRITING}').write_text('whole')
    with pytest.raises(OSError, match=os.strerror(number)):
        publish(str(tmp_path / 'a'))
    assert not (tmp_path / 'a').exists()
    with pytest.raises(SettingsError, match='work_dir=.*another --work-dir'):
        check_folder(str(tmp_path), 'work_dir')


def test_folders_that_cannot_be_written_are_found_before_the_run(tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    with pytest.raises(SettingsError, match='out_dir=.*file/run cannot be written: Not a dir'):
        check_folder(str(tmp_path / 'file' / 'run'), 'out_dir')
    monkeypatch.setattr(os, 'replace', lambda *names: (_ for _ in ()).throw(OSError(38, 'none')))
    with pytest.raises(SettingsError, match='cannot be written: none'):  # a mount without renaming
        check_folder(str(tmp_path), 'work_dir')
    assert os.listdir(tmp_path) == ['file']


@pytest.mark.parametrize('address', ['s3://bucket/run', 'petrel://a/b', 'cluster:s3://a/b'])
def test_object_stores_are_refused_before_the_run(address):
    with pytest.raises(SettingsError, match='object store'):
        check_folder(address, 'work_dir')
    with pytest.raises(SettingsError, match=r"out_dir=.*type='CheckpointHook'"):
        AtomicCheckpointHook(out_dir=address)
    assert not os.path.exists('s3:') and not os.path.exists('petrel:')


def test_backends_of_folders_are_taken_and_others_are_not():
    AtomicCheckpointHook(backend_args=dict(backend='local'))
    with pytest.raises(SettingsError, match='backend_args'):
        AtomicCheckpointHook(backend_args=dict(backend='petrel'))
    with pytest.raises(SettingsError, match='file_client_args'):
        AtomicCheckpointHook(file_client_args=dict(backend='petrel'))
