"""``python -m plrc_plugin doctor``: what is installed, and which parts of the plug-in work with it.

Please put its output into reports of problems. It is one screen long, and the command changes
nothing. The exit code is 0 if pre-training works, and 1 if it does not.
"""

import argparse
import importlib
import os
import platform
import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, Optional

# The import name of each package, and its name in OneDL's distribution and in OpenMMLab's own.
TWINS = {
    'mmengine': ('onedl-mmengine', 'mmengine'),
    'mmcv': ('onedl-mmcv', 'mmcv'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
    'mmseg': ('onedl-mmsegmentation', 'mmsegmentation'),
    'mmpretrain': ('onedl-mmpretrain', 'mmpretrain'),
    'mim': ('onedl-mim', 'openmim'),
}
OTHERS = ('torch', 'torchvision', 'numpy', 'lightly', 'timm', 'safetensors')


class Offer(NamedTuple):
    """A part of the plug-in, what it imports, and the command that installs that."""

    what: str
    imports: tuple[str, ...]
    onedl: str
    openmmlab: str


_OPERATORS = 'CFLAGS="-O1 -g0" MMCV_WITH_OPS=1 pip install --no-build-isolation --no-cache-dir '
OFFERS = (
    Offer(
        'pre-training',
        ('torch', 'torchvision', 'lightly', 'mmengine', 'plrc_plugin.models', 'plrc_plugin.engine'),
        "pip install 'plrc_plugin[onedl]'",
        "pip install 'plrc_plugin[openmmlab]'",
    ),
    Offer('mim train plrc_plugin', ('mim',), 'pip install onedl-mim', 'pip install openmim'),
    Offer('trunks of timm', ('timm',), 'pip install timm', 'pip install timm'),
    Offer(
        'operators of mmcv',
        ('mmcv._ext',),
        f'{_OPERATORS}--force-reinstall --no-deps onedl-mmcv',
        f"{_OPERATORS}--force-reinstall --no-deps 'mmcv==2.1.0'",
    ),
    Offer(
        'fine-tuning in mmdet',
        ('mmcv._ext', 'mmdet.models'),
        "pip install --no-build-isolation 'plrc_plugin[onedl-det]'",
        "pip install --no-build-isolation 'plrc_plugin[openmmlab-det]'",
    ),
    Offer(
        'fine-tuning in mmseg',
        ('mmcv._ext', 'mmseg.models'),
        "pip install --no-build-isolation 'plrc_plugin[onedl-seg]'",
        "pip install --no-build-isolation 'plrc_plugin[openmmlab-seg]'",
    ),
    Offer(
        'mmpretrain',
        ('mmpretrain',),
        "pip install --no-build-isolation 'plrc_plugin[onedl-pretrain]'",
        "pip install --no-build-isolation 'plrc_plugin[openmmlab-pretrain]'",
    ),
)


def version_of(distribution: str) -> Optional[str]:
    """Returns the installed version of a distribution, or None if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def why_not(module: str) -> Optional[str]:
    """Says in one line why a module cannot be imported; returns None if it can."""
    try:
        importlib.import_module(module)
    except BaseException as error:  # broken extensions raise errors of any kind
        return f'{module}: {" ".join(str(error).split())[:160] or type(error).__name__}'
    return None


def packages() -> list[str]:
    """Returns one line for each package: its version, and which of the two distributions it is."""
    lines = []
    for name, twins in TWINS.items():
        found = [f'{twin} {version}' for twin in twins if (version := version_of(twin))]
        clash = '   BOTH are installed and overwrite each other: uninstall both, install one'
        lines.append(f'  {name:<12} {" and ".join(found) or "-"}{clash * (len(found) > 1)}')
    return lines + [f'  {name:<12} {version_of(name) or "-"}' for name in OTHERS]


def machine() -> list[str]:
    """Returns lines on device, shared memory and writable folders."""
    lines = []
    if why_not('torch') is None:
        import torch

        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        lines.append(f'  device       {", ".join(names) or "CPU only"} (CUDA {torch.version.cuda})')
    lines.append(f'  processors   {os.cpu_count()}')
    if Path('/dev/shm').is_dir():
        free = shutil.disk_usage('/dev/shm').free / 2**20
        small = '   small: workers of the loader may die; docker run --shm-size=8g'
        lines.append(f'  /dev/shm     {free:.0f} MB free{small * (free < 512)}')
    for what, folder in (('this folder', Path.cwd()), ('temporary', Path(tempfile.gettempdir()))):
        writable = 'writable' if os.access(folder, os.W_OK) else 'NOT writable: choose --work-dir'
        lines.append(f'  {what:<12} {folder}: {writable}')
    return lines


def offers() -> tuple[list[str], bool]:
    """Returns one line for each part, with the command that installs a missing one; and whether
    pre-training works."""
    own = version_of('mmengine') is not None and version_of('onedl-mmengine') is None
    lines, works = [], True
    for offer in OFFERS:
        problem = next(filter(None, map(why_not, offer.imports)), None)
        lines.append(f'  {"no " if problem else "yes"} {offer.what}')
        if problem:
            works = works and offer is not OFFERS[0]
            lines.append(f'        {problem}')
            lines.append(f'        {offer.openmmlab if own else offer.onedl}')
    return lines, works


def main(arguments: list[str]) -> int:
    argparse.ArgumentParser(prog='python -m plrc_plugin doctor', description=__doc__).parse_args(
        arguments
    )
    plugin = version_of('plrc_plugin') or '(not installed, run from a checkout)'
    print(f'plrc_plugin {plugin}, Python {platform.python_version()}, {platform.platform()}')
    print(f'  {sys.executable}', *packages(), 'machine', *machine(), sep='\n')
    lines, works = offers()
    print('works here', *lines, sep='\n')
    return 0 if works else 1
