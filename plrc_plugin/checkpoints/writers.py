"""What each export target writes: one function a layout, registered under the targets that read it.

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
    require_resnet,
)
from plrc_plugin.registry import EXPORTS


@EXPORTS.register_module(['mmdet', 'mmseg', 'mmpretrain'])
def write_openmmlab(trunk: dict[str, Tensor], path: str, source: str) -> list[str]:
    """A checkpoint for ``init_cfg=dict(type='Pretrained', checkpoint=...)`` of a backbone."""
    torch.save(dict(meta=dict(source=source), state_dict=trunk), path)
    return list(trunk)


@EXPORTS.register_module('plrc')
def write_plrc(trunk: dict[str, Tensor], path: str, source: str) -> list[str]:
    """A checkpoint as pre-training leaves it: the trunk under ``backbone.``."""
    return write_openmmlab({f'backbone.{key}': v for key, v in trunk.items()}, path, source)


@EXPORTS.register_module(['torchvision', 'timm'])
def write_torchvision(trunk: dict[str, Tensor], path: str, source: str) -> list[str]:
    """A bare state dict, in which ``source`` has no place."""
    require_resnet(trunk, 'torchvision or timm')
    check_torchvision_shapes(trunk)
    torch.save(trunk, path)
    return list(trunk)


@EXPORTS.register_module('detectron2')
def write_detectron2(trunk: dict[str, Tensor], path: str, source: str) -> list[str]:
    """A pickle of arrays under detectron2's own names."""
    require_resnet(trunk, 'detectron2')
    arrays = {detectron2_name(key): value.numpy() for key, value in trunk.items()}
    with open(path, 'wb') as file:
        pickle.dump(dict(model=arrays, __author__='plrc_plugin', matching_heuristics=True), file)
    return list(arrays)


@EXPORTS.register_module('safetensors')
def write_safetensors(trunk: dict[str, Tensor], path: str, source: str) -> list[str]:
    """Tensors alone, which nothing has to unpickle."""
    from safetensors.torch import save_file

    save_file(trunk, path, metadata=dict(format='pt', source=source))
    return list(trunk)
