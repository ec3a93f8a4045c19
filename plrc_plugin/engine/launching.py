"""How the processes of a run find each other."""

import glob
import os
import subprocess
import time
import zlib
from typing import NamedTuple, Optional

import torch
from mmengine.dist import init_dist

from plrc_plugin.errors import SettingsError

# Environment variables of each launcher: rank, number of processes, rank on the node.
_LAUNCHERS = dict(
    pytorch=('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    slurm=('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    mpi=('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
)
_STARTED_BY = dict(
    pytorch='torchrun --nproc-per-node N tools/train.py ... --launcher pytorch',
    slurm='srun --ntasks N python tools/train.py ... --launcher slurm',
    mpi='mpirun -n N python tools/train.py ... --launcher mpi',
)
_HERE = ('LOCAL_WORLD_SIZE', 'SLURM_NTASKS_PER_NODE', 'OMPI_COMM_WORLD_LOCAL_SIZE')
# Below the ports that Linux hands out to connections (32768 and above).
_FIRST_PORT, _PORTS = 15000, 15000
_FIRST_SPECIAL_STEP = 0xFFFFFFF0


def prepare_launcher(launcher: str) -> None:
    """Checks that the launcher started this process, and where those of a Slurm or MPI job meet.

    Raises:
        SettingsError: with the command, if it did not; if the first node is not known.
    """
    missing = [name for name in _LAUNCHERS[launcher] if name not in os.environ]
    if missing:
        raise SettingsError(
            f'--launcher {launcher} expects to be started by it, and {missing[0]} is not set: '
            f'{_STARTED_BY[launcher]}; or leave --launcher out to train in one process'
        )
    if launcher == 'pytorch':  # torchrun has chosen both
        return
    os.environ.setdefault('MASTER_PORT', str(port_of_the_job(os.environ)))
    if 'MASTER_ADDR' not in os.environ:
        size = os.environ[_LAUNCHERS[launcher][1]]
        if launcher == 'mpi' and os.environ.get('OMPI_COMM_WORLD_LOCAL_SIZE', size) != size:
            raise SettingsError(
                '--launcher mpi on several nodes: set the environment variable '
                'MASTER_ADDR to the name of the first node (mpirun -x MASTER_ADDR)'
            )
        os.environ['MASTER_ADDR'] = _first_node() if launcher == 'slurm' else '127.0.0.1'


def check_company(launcher: str, environ=os.environ, patience: float = 10.0) -> None:
    """Checks that as many processes were started as the launcher says, before they wait for each
    other.

    Args:
        launcher: of ``--launcher``, 'none' for one process.
        environ: the variables of this process.
        patience: seconds in which others must show up where only they can tell.

    Raises:
        SettingsError: if a launcher has started several and none is named: each would train alone,
            and all of them in one work dir. If Slurm has tasks for several, and this process is
            alone: it stands in a batch script or a shell without ``srun``.
    """
    if launcher == 'none':
        _check_not_named(environ)
    elif launcher == 'slurm':
        _check_started_by_srun(environ, patience)


def alone_among_tasks(launcher: str, environ=os.environ) -> Optional[str]:
    """What to say where a run of one process stands in a Slurm job that has room for several."""
    tasks = environ.get('SLURM_NTASKS', '')
    if launcher != 'none' or not tasks.isdigit() or int(tasks) < 2:
        return None
    return (
        f'this job of Slurm has {tasks} tasks, and the run is one process: '
        f'{_STARTED_BY["slurm"].replace(" N ", f" {tasks} ")} trains in all of them'
    )


def _check_not_named(environ) -> None:
    size = environ.get
    by_srun = size('SLURM_PROCID', '0') != '0' or (
        _is_numbered_step(environ) and 'SLURM_PTY_PORT' not in environ
    )
    started = dict(
        pytorch=size('WORLD_SIZE') if 'TORCHELASTIC_RUN_ID' in environ else None,
        mpi=size('OMPI_COMM_WORLD_SIZE'),
        slurm=size('SLURM_NTASKS') if by_srun else None,
    )
    for name, processes in started.items():
        if (processes or '').isdigit() and int(processes) > 1:
            raise SettingsError(
                f'{_STARTED_BY[name].split()[0]} has started {processes} processes, each of which '
                f'would train alone: add --launcher {name}; for runs of their own, take '
                f'{_LAUNCHERS[name][1]} out of their environment'
            )


def _check_started_by_srun(environ, patience: float) -> None:
    tasks = environ.get('SLURM_NTASKS', '')
    if not tasks.isdigit() or int(tasks) < 2 or environ.get('SLURM_PROCID') != '0':
        return
    own = environ.get('SLURM_TASK_PID') == str(os.getpid())
    if _is_numbered_step(environ) and ('SLURM_PTY_PORT' not in environ or own):
        return
    # A batch script or a shell. Whatever else sets these variables starts its tasks at once.
    until = time.monotonic() + patience
    while not _other_tasks_here(environ):
        if time.monotonic() >= until:
            raise SettingsError(
                f'--launcher slurm: the job has SLURM_NTASKS={tasks}, but srun did not start this '
                f'process, which would wait for {int(tasks) - 1} that never come: '
                f'{_STARTED_BY["slurm"].replace(" N ", f" {tasks} ")}; or leave --launcher out to '
                'train in one process'
            )
        time.sleep(0.2)


def _is_numbered_step(environ) -> bool:
    """Whether srun has started this process. Batch scripts have no step, or one of the numbers at
    the upper end that Slurm keeps for itself, as the shells of ``salloc`` have."""
    step = environ.get('SLURM_STEP_ID') or environ.get('SLURM_STEPID') or ''
    return step.isdigit() and int(step) < _FIRST_SPECIAL_STEP


def _other_tasks_here(environ) -> bool:
    """Whether a process of the same job and of another rank runs on this machine."""
    job, rank = (environ.get(name, '') for name in ('SLURM_JOB_ID', 'SLURM_PROCID'))
    for path in glob.glob('/proc/[0-9]*/environ'):
        try:
            with open(path, 'rb') as file:
                words = os.fsdecode(file.read()).split('\0')
        except OSError:  # of another user, or gone
            continue
        theirs = dict(word.partition('=')[::2] for word in words)
        if theirs.get('SLURM_JOB_ID', '') == job and theirs.get('SLURM_PROCID', rank) != rank:
            return True
    return False


class ProcessPlace(NamedTuple):
    """Of a process in its run; ``processes_here`` are those on its machine."""

    rank: int
    processes: int
    local_rank: int
    processes_here: int


def place_of_this_process(launcher: str) -> ProcessPlace:
    """What the launcher has told this process, before the processes have met."""
    rank, size, local_rank = (int(os.environ[name]) for name in _LAUNCHERS[launcher])
    here = next((os.environ[name] for name in _HERE if os.environ.get(name, '').isdigit()), size)
    return ProcessPlace(rank, size, local_rank, int(here))


def join_processes(launcher: str, env_cfg: dict) -> None:
    """Makes this process one of the group, with or without GPUs."""
    if torch.cuda.is_available():
        prepare_launcher(launcher)
        init_dist(launcher, **env_cfg.get('dist_cfg', {}))
    else:
        init_processes_without_gpu(launcher)


def port_of_the_job(environ) -> int:
    """A port that all processes of a job step compute alike, and another job hardly shares.

    The number of the job, and of the step in it, decide: eight steps of a job, and the jobs with
    the 1,800 numbers that follow, all get ports of their own.
    """
    job = environ.get('SLURM_JOB_ID') or environ.get('SLURM_JOBID')
    if job is not None and job.isdigit():
        step = environ.get('SLURM_STEP_ID') or environ.get('SLURM_STEPID') or '0'
        return _FIRST_PORT + (8 * int(job) + (int(step) if step.isdigit() else 0)) % _PORTS
    name = environ.get('PMIX_NAMESPACE') or environ.get('OMPI_MCA_ess_base_jobid')
    if name is not None:
        return _FIRST_PORT + zlib.crc32(name.encode()) % _PORTS
    return 29500  # torch's own


def init_processes_without_gpu(launcher: str) -> None:
    """Joins the process group of ``launcher`` through gloo; mmengine would ask for a GPU."""
    prepare_launcher(launcher)
    rank, size, local_rank = (os.environ[name] for name in _LAUNCHERS[launcher])
    os.environ.update(RANK=rank, WORLD_SIZE=size, LOCAL_RANK=local_rank)
    os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
    os.environ.setdefault('MASTER_PORT', '29500')
    torch.distributed.init_process_group('gloo')


def _first_node() -> str:
    """The first node of a Slurm job, where its processes meet."""
    if int(os.environ.get('SLURM_NNODES', 1)) == 1:
        return '127.0.0.1'
    nodes = os.environ.get('SLURM_NODELIST', '')
    try:
        shown = subprocess.check_output(['scontrol', 'show', 'hostnames', nodes], text=True)
        return shown.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise SettingsError(
            f'the first node of SLURM_NODELIST={nodes} cannot be found ({error}): '
            'set the environment variable MASTER_ADDR to its name'
        ) from error
