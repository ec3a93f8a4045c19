"""Writes the files of tools, and never over a file that somebody else made."""

import os
from pathlib import Path
from typing import Union

from plrc_plugin.errors import SettingsError

# Bytes that a tool's own files hold near their beginning or end.
PAGE = b'<meta name="generator" content="plrc_plugin">'
PICTURE = b'Matplotlib'
PROBES = b'"settings"'


def check_output(
    path: Union[str, Path], made_by_us: bytes = b'', overwrite: bool = False, setting: str = '--out'
) -> None:
    """Checks, before the work begins, that a tool may write a file.

    Args:
        path: the file to write.
        made_by_us: bytes near the beginning or end of the files that this tool makes. Such a file
            is written anew. Without them no file is written over.
        overwrite: whether an existing file may be replaced, whoever made it.
        setting: the option that gave the path, for messages.

    Raises:
        SettingsError: if the file exists and was not made by this tool, or its folder does not
            exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise SettingsError(
            f'{setting}: {path} cannot be written: there is no folder {path.parent}'
        )
    if path.is_dir():
        raise SettingsError(f'{setting}: {path} is a folder: give the name of a file')
    if overwrite or not path.exists():
        return
    if made_by_us:
        with open(path, 'rb') as file:
            near = file.read(4096)
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            if made_by_us in near or made_by_us in file.read():
                return
        raise SettingsError(
            f'{setting}: {path} exists and was not made by this tool: give another name, or remove '
            'it'
        )
    raise SettingsError(f'{setting}: {path} exists: give another name, or --overwrite')


def publish(path: Path, text: str) -> None:
    """Writes a text file whole or not at all. If the process is killed, the earlier file stays."""
    beside = path.with_name(f'{path.name}.part')
    beside.write_text(text, encoding='utf-8', errors='backslashreplace')
    os.replace(beside, path)
