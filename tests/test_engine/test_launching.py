"""Jobs do not meet each other, and who was started wrongly is told the command."""

import os
import subprocess

import pytest

from plrc_plugin.engine.launching import (
    alone_among_tasks,
    check_company,
    port_of_the_job,
    prepare_launcher,
)
from plrc_plugin.engine.runner import readable_meeting
from plrc_plugin.errors import SettingsError

NAMES = [
    'RANK',
    'WORLD_SIZE',
    'LOCAL_RANK',
    'MASTER_ADDR',
    'MASTER_PORT',
    'SLURM_JOB_ID',
    'PMIX_NAMESPACE',
]


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in [*NAMES, *(n for n in os.environ if n.startswith(('SLURM_', 'OMPI_', 'PMI')))]:
        monkeypatch.setenv(name, '')  # restored afterwards
        monkeypatch.delenv(name)


def test_two_slurm_jobs_and_two_steps_of_one_have_ports_of_their_own():
    ports = {
        port_of_the_job(dict(SLURM_JOB_ID=str(job), SLURM_STEP_ID=str(step)))
        for job in range(70000, 70200)
        for step in range(8)
    }
    assert len(ports) == 1600
    assert min(ports) >= 15000 and max(ports) < 30000


def test_all_processes_of_a_job_compute_the_same_port(monkeypatch):
    found = set()
    for rank in range(3):
        for name, value in dict(PROCID=rank, NTASKS=3, LOCALID=rank, JOB_ID=71, STEP_ID=1).items():
            monkeypatch.setenv(f'SLURM_{name}', str(value))
        monkeypatch.setenv('MASTER_PORT', '')
        monkeypatch.delenv('MASTER_PORT')
        prepare_launcher('slurm')
        found.add(os.environ['MASTER_PORT'])
    assert found == {str(15000 + 8 * 71 + 1)}


def test_a_port_that_was_given_stays(monkeypatch):
    for name, value in dict(PROCID=0, NTASKS=1, LOCALID=0, JOB_ID=71).items():
        monkeypatch.setenv(f'SLURM_{name}', str(value))
    monkeypatch.setenv('MASTER_PORT', '12345')
    monkeypatch.setenv('MASTER_ADDR', 'n1')
    prepare_launcher('slurm')
    assert os.environ['MASTER_PORT'] == '12345' and os.environ['MASTER_ADDR'] == 'n1'


def test_torchrun_is_left_alone(monkeypatch):
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'):
        monkeypatch.setenv(name, '0')
    prepare_launcher('pytorch')
    assert 'MASTER_PORT' not in os.environ and 'MASTER_ADDR' not in os.environ


def test_mpi_jobs_differ_by_their_name():
    a, b = (port_of_the_job(dict(PMIX_NAMESPACE=f'prterun-n-{i}@1')) for i in range(2))
    assert a != b


@pytest.mark.parametrize(
    'launcher, command', [('pytorch', 'torchrun'), ('slurm', 'srun'), ('mpi', 'mpirun')]
)
def test_a_launcher_that_did_not_start_the_run(launcher, command):
    with pytest.raises(SettingsError, match=f'--launcher {launcher} .* is not set: {command}'):
        prepare_launcher(launcher)


def test_a_port_in_use_is_named_and_not_the_config(monkeypatch):
    monkeypatch.setenv('MASTER_ADDR', 'n1')
    monkeypatch.setenv('MASTER_PORT', '29500')
    with (
        pytest.raises(SettingsError, match='cannot meet at n1:29500: .*EADDRINUSE.*MASTER_PORT'),
        readable_meeting(),
    ):
        raise RuntimeError('The server socket has failed to listen. (errno: 98 - EADDRINUSE)')


@pytest.mark.parametrize(
    'environ, named',
    [
        (dict(TORCHELASTIC_RUN_ID='1', WORLD_SIZE='2'), 'torchrun has started 2.*pytorch'),
        (dict(OMPI_COMM_WORLD_SIZE='3'), 'mpirun has started 3.*mpi'),
        (dict(SLURM_NTASKS='4', SLURM_PROCID='3'), 'srun has started 4.*slurm'),
        (dict(SLURM_NTASKS='4', SLURM_PROCID='0', SLURM_STEP_ID='0'), 'srun has started 4.*slurm'),
    ],
)
def test_a_launcher_that_is_not_named(environ, named):
    """Each process would train alone, and all of them in one work dir."""
    with pytest.raises(SettingsError, match=named):
        check_company('none', environ)
    check_company(named.rpartition('*')[2], environ)


@pytest.mark.parametrize(
    'environ',
    [
        {},
        dict(WORLD_SIZE='2'),
        dict(TORCHELASTIC_RUN_ID='1', WORLD_SIZE='1'),
        dict(SLURM_NTASKS='4', SLURM_PROCID='0'),  # sbatch
        dict(SLURM_NTASKS='4', SLURM_PROCID='0', SLURM_STEP_ID='0', SLURM_PTY_PORT='1'),  # a shell
    ],
)
def test_a_run_of_one_process_is_let_through(environ):
    check_company('none', environ)


ALONE = {
    'sbatch': {},
    'sbatch, as newer versions number it': dict(SLURM_STEP_ID=str(0xFFFFFFFB)),
    'salloc': dict(SLURM_STEP_ID=str(0xFFFFFFFA), SLURM_PTY_PORT='1'),
    'srun --pty bash': dict(SLURM_STEP_ID='0', SLURM_PTY_PORT='1', SLURM_TASK_PID='1'),
}


@pytest.mark.parametrize('where', ALONE)
def test_a_process_that_srun_did_not_start_waits_for_nobody(where):
    environ = dict(SLURM_JOB_ID='71', SLURM_NTASKS='8', SLURM_PROCID='0', **ALONE[where])
    with pytest.raises(SettingsError, match='7 that never come: srun --ntasks 8 .*leave --launch'):
        check_company('slurm', environ, patience=0)
    check_company('none', environ)  # clearly meant: it is said, and trains
    assert 'has 8 tasks, and the run is one process' in alone_among_tasks('none', environ)
    check_company('slurm', {**environ, 'SLURM_NTASKS': '1'}, patience=0)


@pytest.mark.parametrize(
    'more',
    [
        dict(SLURM_STEP_ID='0'),
        dict(SLURM_STEP_ID='3', SLURM_PTY_PORT='1', SLURM_TASK_PID=str(os.getpid())),
        dict(SLURM_PROCID='1'),
    ],
)
def test_tasks_of_srun_are_let_through_at_once(more):
    environ = dict(SLURM_JOB_ID='71', SLURM_NTASKS='8', SLURM_PROCID='0')
    check_company('slurm', {**environ, **more}, patience=0)


def test_tasks_without_a_step_see_each_other():
    """As a stand-in for srun starts them."""
    environ = dict(SLURM_JOB_ID='7171', SLURM_NTASKS='2', SLURM_PROCID='0')
    other = subprocess.Popen(['sleep', '60'], env={**os.environ, **environ, 'SLURM_PROCID': '1'})
    try:
        check_company('slurm', environ)
    finally:
        other.kill()
        other.wait()
