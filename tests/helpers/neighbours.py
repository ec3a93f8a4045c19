"""Projects of other people, which know the plug-in by ``custom_imports`` alone."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ('person', 'cat', 'cup', 'helmet', 'shuttle', 'camera', 'horse', 'retina')  # of scenes


def train_by(library: str, project: Path, config: str, **settings) -> str:
    """Writes a config into a project and trains it there by the library's own tool.

    Args:
        library: whose installed ``tools/train.py`` is run.
        project: the folder; the config is ``config.py`` in it, and its work dir ``work`` in it.
        config: the config's text.
        settings: texts that stand before it, ``name = 'text'``.

    Returns:
        What the run printed.
    """
    project.mkdir(exist_ok=True)
    head = ''.join(f'{name} = {str(value)!r}\n' for name, value in settings.items())
    (project / 'config.py').write_text(head + config)
    package = Path(importlib.util.find_spec(library).origin).parent
    done = subprocess.run(
        [sys.executable, package / '.mim/tools/train.py', 'config.py', '--work-dir', 'run'],
        cwd=project,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), *sys.path[1:]])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr
