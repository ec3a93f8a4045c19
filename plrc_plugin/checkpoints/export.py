"""A trunk in the layouts of other frameworks."""

import re
from pathlib import Path

from torch import Tensor

from plrc_plugin.checkpoints import writers  # noqa: F401  registers the targets
from plrc_plugin.checkpoints.resnet import complete_resnet, is_resnet, listed
from plrc_plugin.errors import SettingsError
from plrc_plugin.registry import EXPORTS

# Names of the registered targets; the view shows those that other modules add later, too.
TARGETS = EXPORTS.module_dict.keys()


def export_trunk(trunk: dict[str, Tensor], path: str, target: str, source: str = '') -> list[str]:
    """Write ``trunk`` (see :func:`plrc_plugin.checkpoints.read_trunk`) for one of ``TARGETS``.

    Only ResNets go to torchvision, timm and detectron2; mm* and safetensors take any trunk. A
    further target is one function in the form of :mod:`~plrc_plugin.checkpoints.writers`,
    registered in :data:`~plrc_plugin.registry.EXPORTS`.

    Args:
        trunk: tensors by name. A ResNet is completed with the BN step counters that it lacks.
        path: the file to write.
        target: one of ``TARGETS``.
        source: where the trunk came from, kept as a note in the file.

    Returns:
        The names written.

    Raises:
        SettingsError: if there is no such target or folder; with the list, if names or shapes do
            not fit the target.
    """
    if target not in TARGETS:
        raise SettingsError(f'target must be one of {", ".join(TARGETS)}, got {target!r}')
    if not Path(path).parent.is_dir():
        raise SettingsError(f'{path} cannot be written: there is no folder {Path(path).parent}')
    _check_names(trunk)
    if is_resnet(trunk):
        trunk = complete_resnet(trunk)
    return EXPORTS.module_dict[target](trunk, path, source)


def _check_names(trunk: dict[str, Tensor]) -> None:
    """Raises SettingsError for names that no module of a trunk has at its top."""
    strange = [
        key
        for key in trunk
        if re.match(r'\d|\.', key)
        or re.match(r'(\w*encoder\w*|\w*backbone|\w*projector|queue\w*)\.', key)
    ]
    if strange:
        raise SettingsError(
            'these are not the names of a trunk alone; give the place of the trunk, '
            'with its last dot, as prefix (--prefix backbone.):' + listed(strange[:10])
        )
