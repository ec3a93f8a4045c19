"""The runner finds its processes under every launcher, with and without GPUs."""

import os

import pytest
from runs import make_images, tiny_config
from torch import distributed as dist

from plrc_plugin.engine.runner import PretrainRunner, init_processes_without_gpu
from plrc_plugin.errors import SettingsError


@pytest.mark.parametrize(
    'launcher, environ',
    [
        ('pytorch', dict(RANK='3', WORLD_SIZE='8', LOCAL_RANK='1')),
        ('slurm', dict(SLURM_PROCID='3', SLURM_NTASKS='8', SLURM_LOCALID='1')),
        (
            'mpi',
            dict(
                OMPI_COMM_WORLD_RANK='3', OMPI_COMM_WORLD_SIZE='8', OMPI_COMM_WORLD_LOCAL_RANK='1'
            ),
        ),
    ],
)
def test_every_launcher_works_without_gpu(launcher, environ, monkeypatch):
    joined = []
    monkeypatch.setattr(dist, 'init_process_group', joined.append)
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.setenv(name, '')  # restored afterwards
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    init_processes_without_gpu(launcher)
    assert joined == ['gloo']
    assert [os.environ[n] for n in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')] == ['3', '8', '1']
    assert os.environ['MASTER_ADDR'] and os.environ['MASTER_PORT']


@pytest.mark.parametrize('nodes, found', [('n[7-9]', 'n7'), ('gone', None)])
def test_slurm_nodes_meet_at_the_first(nodes, found, monkeypatch, tmp_path):
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostnames n[7-9]" ] && printf "n7\\nn8\\n"\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    monkeypatch.setattr(dist, 'init_process_group', lambda backend: None)
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.setenv(name, '')  # restored afterwards
        monkeypatch.delenv(name)
    for name, value in dict(
        PROCID='3', NTASKS='8', LOCALID='1', NNODES='3', NODELIST=nodes
    ).items():
        monkeypatch.setenv(f'SLURM_{name}', value)
    if found is None:
        with pytest.raises(SettingsError, match='SLURM_NODELIST=gone.*MASTER_ADDR'):
            init_processes_without_gpu('slurm')
        os.environ['MASTER_ADDR'] = 'n1'  # then Slurm is not asked
    init_processes_without_gpu('slurm')
    assert os.environ['MASTER_ADDR'] == (found or 'n1')


def test_mpi_over_several_nodes_needs_an_address(monkeypatch):
    monkeypatch.delenv('MASTER_ADDR', raising=False)
    for name, value in dict(RANK=0, SIZE=4, LOCAL_RANK=0, LOCAL_SIZE=2).items():
        monkeypatch.setenv(f'OMPI_COMM_WORLD_{name}', str(value))
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'):
        monkeypatch.setenv(name, '')  # to be restored
    with pytest.raises(SettingsError, match='--launcher mpi on several nodes.*MASTER_ADDR'):
        init_processes_without_gpu('mpi')


def test_a_preprocessor_that_would_not_be_used_is_refused(tmp_path):
    cfg = tiny_config(make_images(tmp_path / 'images', count=4), tmp_path / 'run')
    cfg.data_preprocessor = dict(type='plrc_plugin.ViewsPreprocessor', mean=[0, 0, 0])
    cfg.model.data_preprocessor = dict(type='plrc_plugin.ViewsPreprocessor', channels_last=True)
    with pytest.raises(SettingsError, match='only the second would be used'):
        PretrainRunner.from_cfg(cfg)
