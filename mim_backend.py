"""Build backend: setuptools', plus what makes `mim train plrc_plugin ...` find script and configs.

Where the two mims look for `.mim/tools/train.py` or `tools/train.py`, and for a config's base name:

=========  ==========================================  =========================================
mim        wheel                                       editable
=========  ==========================================  =========================================
onedl-mim  first component of the installed file list  the checkout
openmim    <site-packages>/plrc_plugin                 <site-packages>/<top_level.txt's 1st line>
=========  ==========================================  =========================================

pip sorts the installed file list and '-' < '/', so its first component is always our `.dist-info`
folder: a wheel carries `.mim` there as well as in the package. In an editable install openmim's
folder does not exist; an absolute path as the first line of top_level.txt leads it to the checkout.
No egg-info may stay in the checkout: `python -m mim` there would read it in place of the dist-info.
"""

import base64
import hashlib
import shutil
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from setuptools import build_meta as _setuptools
from setuptools.build_meta import *  # noqa: F403 (whatever hooks setuptools offers)

ROOT = Path(__file__).resolve().parent
EGG_INFO = ROOT / 'plrc_plugin.egg-info'


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Builds setuptools' wheel and puts configs and tools into both `.mim` folders."""
    with TemporaryDirectory() as build_base:  # a build/ folder here would go stale
        settings = dict(config_settings or {})
        settings['--global-option'] = ['build', f'--build-base={build_base}']
        name = _setuptools.build_wheel(wheel_directory, settings, metadata_directory)
    shutil.rmtree(EGG_INFO, ignore_errors=True)
    _edit_wheel(
        Path(wheel_directory, name),
        lambda info: {
            f'{home}/.mim/{script.relative_to(ROOT).as_posix()}': script.read_bytes()
            for home in ('plrc_plugin', info)
            for script in shipped_scripts()
        },
    )
    return name


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    """Builds setuptools' editable wheel and names the checkout in its top_level.txt."""
    name = _setuptools.build_editable(wheel_directory, config_settings, metadata_directory)
    shutil.rmtree(EGG_INFO, ignore_errors=True)
    _edit_wheel(
        Path(wheel_directory, name),
        lambda info: {f'{info}/top_level.txt': f'{ROOT}\nplrc_plugin\n'.encode()},
    )
    return name


def shipped_scripts():
    """The configs and tools that a wheel carries: all but those that lead to a study."""
    configs = [p for p in ROOT.glob('configs/**/*.py') if '/studies/' not in p.read_text('utf-8')]
    return sorted([*configs, *ROOT.glob('tools/**/*.py')])


def _edit_wheel(wheel, make_files):
    """Adds files to a wheel, or replaces them, and rewrites its RECORD."""
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    record = next(name for name in files if name.endswith('.dist-info/RECORD'))
    del files[record]
    files.update(make_files(record.rsplit('/', 1)[0]))
    with zipfile.ZipFile(wheel, 'w', zipfile.ZIP_DEFLATED) as archive:
        rows = []
        for name, content in files.items():
            archive.writestr(name, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b'=')
            rows.append(f'{name},sha256={digest.decode()},{len(content)}\n')
        archive.writestr(record, ''.join(rows) + f'{record},,\n')
