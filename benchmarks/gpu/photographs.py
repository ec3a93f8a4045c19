"""Where photographs come from: a folder, a packed file, or generated scenes."""

import os
import tarfile
import tempfile
from pathlib import Path

from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.datasets.scenes.writing import make_scenes

from .pieces import Setting


def unpacked(source: Path) -> Path:
    """The folder itself, or a temporary one with what a .tar holds, made once per machine."""
    if source.is_dir():
        return source
    state = source.stat()
    name = f'plrc-gpu-{source.stem}-{state.st_size}-{int(state.st_mtime)}'
    folder = Path(tempfile.gettempdir()) / name
    if not folder.is_dir():
        beside = Path(tempfile.mkdtemp(prefix=name))
        with tarfile.open(source) as tar:
            tar.extractall(beside, filter='data')
        os.replace(beside, folder)
    return folder


def photograph_folder(setting: Setting) -> Path:
    """The photographs that were given, or 200 generated scenes (8 for a small run)."""
    if setting.photos is not None:
        return unpacked(setting.photos)
    folder = setting.work / 'scenes'
    if not (folder / 'train').is_dir():
        counts = setting.sized((200, 50), (8, 4))
        make_scenes(str(folder), *counts, progress=False)
    return folder / 'train'


def photographs(setting: Setting, count: int) -> list[str]:
    """Paths of so many photographs, some of them several times where there are fewer."""
    data = ImageFolder(
        str(photograph_folder(setting)),
        pipeline=[lambda record: record['img_path']],
        test_mode=True,
    )
    return [data[i % len(data)] for i in range(count)]
