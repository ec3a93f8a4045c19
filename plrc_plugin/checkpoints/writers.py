"""What each export target writes: one function for each layout, registered under the targets that
read it.

A writer takes a trunk, the path of the file, and a note of where the trunk came from. It returns
the names that it wrote, and raises SettingsError for a trunk that the target cannot take, before
it touches the file. See :func:`plrc_plugin.checkpoints.export_trunk`.
"""

import pickle

import torch
from torch import Tensor

from plrc_plugin.checkpoints.resnet import (
    check_torchvision_shapes,
    detectron2_name,
    is_resnet,
    require_resnet,
)
from plrc_plugin.checkpoints.vit import vit_for
from plrc_plugin.checkpoints.vit_names import is_vit
from plrc_plugin.errors import SettingsError
from plrc_plugin.registry import EXPORTS


@EXPORTS.register_module('mmpretrain')
def write_mmpretrain(trunk: dict[str, Tensor], path: str, source: str) -> list[str]:
    """Writes a checkpoint for ``get_model(..., pretrained=path)``, or for a backbone's
    ``init_cfg=dict(type='Pretrained', checkpoint=path, prefix='backbone')``. The names begin with
    ``backbone.``, as in mmpretrain's own files, and a vision transformer gets mmpretrain's
    names."""
    return write_plrc(vit_for(trunk, 'mmpretrain') if is_vit(trunk) else trunk, path, source)


@EXPORTS.register_module('mmseg')
def write_mmseg(trunk: dict[str, Tensor], path: str, source: str) -> list[str]:
    """As :func:`write_openmmlab`, but a vision transformer gets mmseg's names. mmseg has to build
    it with ``patch_bias=True, final_norm=True, norm_cfg=dict(type='LN', eps=1e-6)``."""
    return write_openmmlab(vit_for(trunk, 'mmseg') if is_vit(trunk) else trunk, path, source)


@EXPORTS.register_module('mmdet')
def write_openmmlab(trunk: dict[str, Tensor], path: str, source: str) -> list[str]:
    """Writes a checkpoint for ``init_cfg=dict(type='Pretrained', checkpoint=...)`` of a
    backbone."""
    torch.save(dict(meta=dict(source=source), state_dict=trunk), path)
    return list(trunk)


@EXPORTS.register_module('plrc')
def write_plrc(trunk: dict[str, Tensor], path: str, source: str) -> list[str]:
    """Writes a checkpoint like those of pre-training, with the trunk under ``backbone.``."""
    return write_openmmlab({f'backbone.{key}': v for key, v in trunk.items()}, path, source)


@EXPORTS.register_module('torchvision')
def write_torchvision(trunk: dict[str, Tensor], path: str, source: str) -> list[str]:
    """Writes a bare state dict, which has no place for ``source``. It takes ResNets, other models
    of torchvision under their own names, and vision transformers, which get torchvision's names."""
    if is_vit(trunk):
        trunk = vit_for(trunk, 'torchvision')
    elif not any(key.startswith(('features.', 'trunk_output.')) for key in trunk):
        require_resnet(trunk, 'torchvision')
        check_torchvision_shapes(trunk)
    torch.save(trunk, path)
    return list(trunk)


@EXPORTS.register_module('timm')
def write_timm(trunk: dict[str, Tensor], path: str, source: str) -> list[str]:
    """Writes a bare state dict under timm's names."""
    if is_resnet(trunk):
        check_torchvision_shapes(trunk)
    elif any(key.startswith(('features.0.', 'trunk_output.')) for key in trunk):
        raise SettingsError(
            'this is a trunk of torchvision, whose names timm does not know: its first is '
            f'{next(iter(trunk))}. Export it to torchvision, or to safetensors'
        )
    torch.save(trunk, path)
    return list(trunk)


@EXPORTS.register_module('detectron2')
def write_detectron2(trunk: dict[str, Tensor], path: str, source: str) -> list[str]:
    """Writes a pickle of arrays under detectron2's names."""
    require_resnet(trunk, 'detectron2')
    arrays = {detectron2_name(key): value.numpy() for key, value in trunk.items()}
    with open(path, 'wb') as file:
        pickle.dump(dict(model=arrays, __author__='plrc_plugin', matching_heuristics=True), file)
    return list(arrays)


@EXPORTS.register_module('safetensors')
def write_safetensors(trunk: dict[str, Tensor], path: str, source: str) -> list[str]:
    """Writes tensors alone, so that nobody has to unpickle anything."""
    from safetensors.torch import save_file

    save_file(trunk, path, metadata=dict(format='pt', source=source))
    return list(trunk)
