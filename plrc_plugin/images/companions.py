"""Recognises files that systems, NAS boxes, archivers and notebooks leave beside photographs."""

import os
import re

# Raise this number when the rules below change, so that an index made under other rules is not
# used.
RULES = 'companions 2'

# Names in lower case that nobody gives to a folder of photographs.
_FOLDERS = {
    # macOS, and its volumes on other systems
    '__macosx',
    '.appledouble',
    '.appledb',
    '.appledesktop',
    '.documentrevisions-v100',
    '.fseventsd',
    '.spotlight-v100',
    '.temporaryitems',
    '.trashes',
    'network trash folder',
    # Windows
    '$recycle.bin',
    'system volume information',
    # Linux desktops and file systems
    '.sh_thumbnails',
    '.snapshot',
    '.snapshots',
    '.thumbnails',
    '.trash',
    '.xvpics',
    '.dtrash',
    '.zfs',
    'lost+found',
    # NAS boxes: Synology, QNAP, Western Digital
    '#recycle',
    '#snapshot',
    '@eadir',
    '@recycle',
    '@tmp',
    '.@__thumb',
    '.@__qini',
    '.wdcache',
    '.wdmc',
    '.recycle',
    '@sharebin',
    '@transcode',
    '~snapshot',
    # programs that manage photographs
    '.picasaoriginals',
    '.tmb',
    # pictures that mmengine draws in a work dir among the photographs
    'vis_data',
    # programs that synchronise
    '.dropbox.cache',
    '.rsync-partial',
    '.stversions',
    '.~tmp~',
    # version control and notebooks
    '.dvc',
    '.git',
    '.hg',
    '.ipynb_checkpoints',
    '.svn',
    '.venv',
    '__pycache__',
}
_TRASH_OF_A_USER = re.compile(r'\.trash-\d+')
_ANDROID = re.compile(r'\.(trashed|pending)-\d+-')  # thrown away, or still being written
# A file of macOS's metadata begins with this mark; on some systems it is empty.
_APPLE_DOUBLE = (b'\x00\x05\x16\x07', b'\x00\x00\x00\x00', b'')


def is_companion_folder(name: str) -> bool:
    """Whether a folder of this name holds copies, thumbnails, rubbish or metadata."""
    lower = name.lower()
    previews = lower.endswith('.lrdata')  # Lightroom
    return lower in _FOLDERS or previews or _TRASH_OF_A_USER.fullmatch(lower) is not None


def is_apple_double(head: bytes) -> bool:
    """Whether a file whose name begins with ``._`` is metadata of macOS, by its first four
    bytes."""
    return head in _APPLE_DOUBLE


def is_companion_name(name: str) -> bool:
    """Whether the name alone shows that a file with an image's extension is no photograph."""
    return name.startswith('~$') or _ANDROID.match(name) is not None


def is_companion_file(name: str, path: str) -> bool:
    """Whether a file with an image's extension is no photograph. A photograph that happens to be
    called ``._x.jpg`` is recognised by its first bytes.
    """
    if name.startswith('._'):
        try:
            with open(path, 'rb') as file:
                return is_apple_double(file.read(4))
        except OSError:
            return False
    if name == 'losses.png':  # plot_losses writes it into work dirs
        return os.path.exists(os.path.join(os.path.dirname(path), 'last_checkpoint'))
    if name.startswith('.#'):  # Emacs locks a file with a link that leads nowhere
        return os.path.islink(path) and not os.path.exists(path)
    return is_companion_name(name)
