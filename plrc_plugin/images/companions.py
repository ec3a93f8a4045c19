"""What systems, NAS boxes, archivers and notebooks leave beside photographs."""

import os
import re

# Changes with the rules below: an index that was remembered under others is not used.
RULES = 'companions 2'

# In lower case. Only names that nobody gives to a folder of photographs.
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
    # what mmengine draws during a run, where a work dir lies among the photographs
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
_ANDROID = re.compile(r'\.(trashed|pending)-\d+-')  # thrown away, and being written
# A file of macOS's metadata begins with its mark; some systems leave an empty one.
_APPLE_DOUBLE = (b'\x00\x05\x16\x07', b'\x00\x00\x00\x00', b'')


def is_companion_folder(name: str) -> bool:
    """Whether a folder of this name holds copies, thumbnails, rubbish or metadata."""
    lower = name.lower()
    previews = lower.endswith('.lrdata')  # Lightroom
    return lower in _FOLDERS or previews or _TRASH_OF_A_USER.fullmatch(lower) is not None


def is_apple_double(head: bytes) -> bool:
    """Whether a file whose name begins with ``._`` is macOS's, by its first four bytes."""
    return head in _APPLE_DOUBLE


def is_companion_name(name: str) -> bool:
    """Whether a file that is called like an image is none that anybody took, by its name alone."""
    return name.startswith('~$') or _ANDROID.match(name) is not None


def is_companion_file(name: str, path: str) -> bool:
    """Whether a file that is called like an image is none that anybody took.

    A photograph that happens to be called ``._x.jpg`` is told by its first bytes.
    """
    if name.startswith('._'):
        try:
            with open(path, 'rb') as file:
                return is_apple_double(file.read(4))
        except OSError:
            return False
    if name == 'losses.png':  # of plot_losses, where a work dir lies among the photographs
        return os.path.exists(os.path.join(os.path.dirname(path), 'last_checkpoint'))
    if name.startswith('.#'):  # Emacs locks a file by a link that leads nowhere
        return os.path.islink(path) and not os.path.exists(path)
    return is_companion_name(name)
