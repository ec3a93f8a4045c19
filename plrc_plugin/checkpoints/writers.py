"""What each export target writes: one function for each layout, registered under the targets that
read it.

A writer takes a trunk, the path of the file, and a note of where the trunk came from. It returns
the names that it wrote, and raises SettingsError for a trunk that the target cannot take, before
it touches the file. A target whose files have a place for it takes ``style`` too, what the trunk
expects of images, or None. See :func:`plrc_plugin.checkpoints.export_trunk`.
"""

import json
import pickle
import re
from typing import Optional

import torch
from torch import Tensor

from plrc_plugin.checkpoints.input_style import META_KEY, InputStyle
from plrc_plugin.checkpoints.resnet import (
    check_torchvision_shapes,
    detectron2_name,
    is_resnet,
    require_resnet,
    timm_resnet,
)
from plrc_plugin.checkpoints.vit import vit_for
from plrc_plugin.checkpoints.vit_names import is_vit, translations
from plrc_plugin.errors import SettingsError
from plrc_plugin.registry import EXPORTS

# Names that Swin, ConvNeXt and vision transformers of OpenMMLab have, and none of timm.
_OF_OPENMMLAB = re.compile(
    r'\.w_msa\.|ffn\.layers|patch_embed\.projection|depthwise_conv|^downsample_layers\.'
)


@EXPORTS.register_module('mmpretrain')
def write_mmpretrain(
    trunk: dict[str, Tensor], path: str, source: str, style: Optional[InputStyle] = None
) -> list[str]:
    """A checkpoint for ``get_model(..., pretrained=path)``, or for a backbone's
    ``init_cfg=dict(type='Pretrained', checkpoint=path, prefix='backbone')``: under ``backbone.``,
    as mmpretrain's own files are; a vision transformer under the names of mmpretrain's."""
    trunk = vit_for(trunk, 'mmpretrain') if is_vit(trunk) else trunk
    return write_plrc(trunk, path, source, style)


@EXPORTS.register_module('mmseg')
def write_mmseg(
    trunk: dict[str, Tensor], path: str, source: str, style: Optional[InputStyle] = None
) -> list[str]:
    """As :func:`write_openmmlab`; a vision transformer under the names of mmseg's, which is to be
    built with ``patch_bias=True, final_norm=True, norm_cfg=dict(type='LN', eps=1e-6)``."""
    trunk = vit_for(trunk, 'mmseg') if is_vit(trunk) else trunk
    return write_openmmlab(trunk, path, source, style)


@EXPORTS.register_module('mmdet')
def write_openmmlab(
    trunk: dict[str, Tensor], path: str, source: str, style: Optional[InputStyle] = None
) -> list[str]:
    """A checkpoint for ``init_cfg=dict(type='Pretrained', checkpoint=...)`` of a backbone."""
    meta = {'source': source, **({META_KEY: style._asdict()} if style else {})}
    torch.save(dict(meta=meta, state_dict=trunk), path)
    return list(trunk)


@EXPORTS.register_module('plrc')
def write_plrc(
    trunk: dict[str, Tensor], path: str, source: str, style: Optional[InputStyle] = None
) -> list[str]:
    """A checkpoint as pre-training leaves it: the trunk under ``backbone.``."""
    return write_openmmlab({f'backbone.{key}': v for key, v in trunk.items()}, path, source, style)


@EXPORTS.register_module('torchvision')
def write_torchvision(trunk: dict[str, Tensor], path: str, source: str) -> list[str]:
    """A bare state dict, in which ``source`` has no place: of a ResNet, of another model of
    torchvision under its own names, or of a vision transformer under those of torchvision's."""
    trunk = next((ours for _, ours in translations(trunk) if is_vit(ours)), trunk)
    if is_vit(trunk):
        trunk = vit_for(trunk, 'torchvision')
    elif not any(key.startswith(('features.', 'trunk_output.')) for key in trunk):
        require_resnet(trunk, 'torchvision')
        check_torchvision_shapes(trunk)
    torch.save(trunk, path)
    return list(trunk)


@EXPORTS.register_module('timm')
def write_timm(trunk: dict[str, Tensor], path: str, source: str) -> list[str]:
    """A bare state dict under timm's names, which are those of a trunk of timm."""
    trunk = timm_resnet(trunk)
    strange = [key for key in trunk if _OF_OPENMMLAB.search(key)]
    if strange:
        for _, ours in translations(trunk):
            if is_vit(ours):
                return write_timm(ours, path, source)
        raise SettingsError(
            f'this is a trunk of OpenMMLab, whose names timm does not know, such as {strange[0]}. '
            'Export it to mmdet, mmseg, mmpretrain or safetensors'
        )
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
def write_safetensors(
    trunk: dict[str, Tensor], path: str, source: str, style: Optional[InputStyle] = None
) -> list[str]:
    """Tensors alone, which nothing has to unpickle."""
    from safetensors.torch import save_file

    told = {META_KEY: json.dumps(style._asdict())} if style else {}
    save_file(trunk, path, metadata=dict(format='pt', source=source, **told))
    return list(trunk)
