"""Replaces mmengine's reader of checkpoints by one that never runs what is in them."""

import os

from mmengine.runner import CheckpointLoader

from plrc_plugin.checkpoints.safe_reading import load_tensors, read_checkpoint
from plrc_plugin.errors import SettingsError

_ADDRESSES = ('http://', 'https://', 'pavi://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://')


def read_without_running() -> None:
    """From now on, every checkpoint that this process opens through mmengine (``load_from``,
    ``resume``, ``init_cfg``, ``pretrained``) gives tensors, numbers and text alone. Addresses are
    refused.

    mmengine's own reader falls back to unpickling anything. The model zoos
    (``torchvision://``, ``open-mmlab://``, ``mmcls://``) stay as they are.
    """
    CheckpointLoader.register_scheme('', load_from_file, force=True)
    CheckpointLoader.register_scheme(_ADDRESSES, load_from_address, force=True)


def load_from_file(filename: str, map_location=None) -> dict:
    """Returns a checkpoint to resume from or, for any other file, its tensors, on the CPU.

    Raises:
        SettingsError: as :func:`~plrc_plugin.checkpoints.safe_reading.load_tensors`.
    """
    path = os.path.expanduser(filename)
    try:
        return read_checkpoint(path, map_location or 'cpu')
    except Exception:  # load_tensors says what is wrong
        checkpoint = load_tensors(path)
        checkpoint.pop('meta', None)  # mmengine would execute this config when it resumes
        return checkpoint


def load_from_address(filename: str, map_location=None) -> dict:
    """Raises SettingsError: nothing is fetched from the network."""
    raise SettingsError(f'{filename}: download the checkpoint first, and give its path')
