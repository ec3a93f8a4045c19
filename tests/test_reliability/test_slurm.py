"""``mim train --launcher slurm`` on a node without Slurm: srun is stood in for by a script."""

import json
import os
import re
import subprocess
import sys
from importlib import metadata

import pytest
from conftest import ROOT
from runs import TINY, make_images

pytestmark = pytest.mark.slow
# Starts the program once per task, with the variables that Slurm sets.
SRUN = f"""#!{sys.executable}
import os, subprocess, sys
words = sys.argv[1:]
program = words[words.index(sys.executable):]
tasks = next(int(word.partition('=')[2]) for word in words if word.startswith('--ntasks='))
given = dict(SLURM_NTASKS=tasks, SLURM_NNODES=1, SLURM_NODELIST='node1', SLURM_JOB_ID=os.getpid())
children = [
    subprocess.Popen(
        program,
        env={{**os.environ, **{{k: str(v) for k, v in given.items()}},
             'SLURM_PROCID': str(rank), 'SLURM_LOCALID': str(rank)}},
    )
    for rank in range(tasks)
]
sys.exit(max(child.wait() for child in children))
"""


def installed_from():
    """The address of what is installed as plrc_plugin, if it is editable."""
    try:
        text = metadata.distribution('plrc_plugin').read_text('direct_url.json')
    except metadata.PackageNotFoundError:
        return None
    return json.loads(text or '{}').get('url')


def installed(folder):
    """A folder for PYTHONPATH in which mim finds this checkout as the installed package."""
    info = folder / 'plrc_plugin-0.1.0.dist-info'
    info.mkdir(parents=True)
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: plrc_plugin\nVersion: 0.1.0\n')
    (info / 'RECORD').write_text('')
    where = dict(url=ROOT.as_uri(), dir_info=dict(editable=True))
    (info / 'direct_url.json').write_text(json.dumps(where))
    return folder


def test_two_tasks_train_one_model(tmp_path):
    images = make_images(tmp_path / 'images', count=8)
    srun = tmp_path / 'bin' / 'srun'
    srun.parent.mkdir()
    srun.write_text(SRUN)
    srun.chmod(0o755)
    given = {**TINY, 'train_dataloader.dataset.data_root': images}
    given['train_dataloader.batch_size'] = 2
    values = [f'{k}={str(v).replace(" ", "")}' for k, v in given.items()]
    words = ['train', 'plrc_plugin', str(ROOT / 'configs/plrc_in1k.py')]
    words += ['--work-dir', str(tmp_path / 'run'), '--launcher', 'slurm', '--partition', 'p']
    words += ['--gpus', '2', '--gpus-per-node', '2', '--cpus-per-task', '1', '-y']
    path = [str(ROOT), os.environ.get('PYTHONPATH', '')]
    if installed_from() != ROOT.as_uri():
        if not hasattr(pytest.importorskip('mim.utils.utils'), 'importlib_metadata'):
            pytest.skip('openmim finds no package but an installed one: make venv-openmmlab')
        path.insert(0, str(installed(tmp_path / 'site')))
    done = subprocess.run(
        [sys.executable, '-c', 'from mim.cli import cli; cli()', *words, '--cfg-options', *values],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env={
            **os.environ,
            'PYTHONPATH': os.pathsep.join(path),
            'PATH': os.pathsep.join([str(srun.parent), os.environ['PATH']]),
            'OMP_NUM_THREADS': '1',
        },
    )
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    assert re.search(r'batch +2 in each of 2 processes, 4 together', done.stdout)
    assert (tmp_path / 'run' / 'epoch_2.pth').exists()
