"""Translates names of plain vision transformers between timm and other libraries."""

import re
from collections.abc import Iterator, Mapping
from typing import Optional

from torch import Tensor

# Patterns of timm's names, and the names in other libraries. Their layer norms share an epsilon of
# 1e-6: it is the default in torchvision and mmpretrain, and norm_cfg sets it in mmseg.
_SHARED = (
    (r'patch_embed\.proj\.', {'torchvision': 'conv_proj.', 'mm': 'patch_embed.projection.'}),
    (r'cls_token$', {'torchvision': 'class_token', 'mm': 'cls_token'}),
    (r'pos_embed$', {'torchvision': 'encoder.pos_embedding', 'mm': 'pos_embed'}),
    (r'norm\.', {'torchvision': 'encoder.ln.', 'mm': 'ln1.'}),
)
_BLOCK = {
    'torchvision': {
        'norm1.': 'ln_1.',
        'attn.qkv.': 'self_attention.in_proj_',
        'attn.proj.': 'self_attention.out_proj.',
        'norm2.': 'ln_2.',
        'mlp.fc1.': 'mlp.0.',
        'mlp.fc2.': 'mlp.3.',
    },
    'mmpretrain': {
        'norm1.': 'ln1.',
        'attn.qkv.': 'attn.qkv.',
        'attn.proj.': 'attn.proj.',
        'norm2.': 'ln2.',
        'mlp.fc1.': 'ffn.layers.0.0.',
        'mlp.fc2.': 'ffn.layers.1.',
        'ls1.gamma': 'attn.gamma1.weight',
        'ls2.gamma': 'ffn.gamma2.weight',
    },
}
_BLOCK['mmseg'] = {
    **{ours: theirs for ours, theirs in _BLOCK['mmpretrain'].items() if 'gamma' not in ours},
    'attn.qkv.': 'attn.attn.in_proj_',
    'attn.proj.': 'attn.attn.out_proj.',
}


def is_vit(trunk: dict[str, Tensor]) -> bool:
    """Whether the names are those of timm's plain vision transformers."""
    return {'patch_embed.proj.weight', 'blocks.0.attn.qkv.weight'} <= trunk.keys()


def translations(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Renames a vision transformer from the names of one library to those of the others.

    Args:
        tensors: those of any trunk, by name.

    Yields:
        The library that the names belonged to, or belong to now, and the renamed tensors. Nothing
        for another kind of trunk.
    """
    ours, source = dict(tensors), ''
    for library in _BLOCK:
        if _MARKS[library] in tensors:
            ours, source = _to_timm(tensors, library), library
    if 'register_tokens' in ours or any(re.match(_DINOV2, key) for key in ours):
        ours, source = _from_dinov2(ours), 'DINOv2'
    if source:
        yield f'of {source}', ours
    if any(key.endswith('.attn.q_bias') and not value.any() for key, value in ours.items()):
        # timm's DINOv3 leaves out attention biases that have stayed 0
        yield 'of DINOv3', {k: v for k, v in ours.items() if not re.search(r'\.[qv]_bias$', k)}
    if is_vit(ours):
        for library in ('mmpretrain', 'mmseg'):
            names = {key: name_in(key, library) for key in ours}
            if source != library and None not in names.values():
                yield f'for {library}', {names[key]: value for key, value in ours.items()}


# A name that only the transformers of this library have.
_MARKS = {
    'torchvision': 'encoder.layers.encoder_layer_0.ln_1.weight',
    'mmpretrain': 'layers.0.attn.qkv.weight',
    'mmseg': 'layers.0.attn.attn.in_proj_weight',
}
_DINOV2 = r'blocks\.\d+\.(\d+\.|mlp\.w12\.)'


def _to_timm(tensors: Mapping[str, Tensor], library: str) -> dict[str, Tensor]:
    family = 'torchvision' if library == 'torchvision' else 'mm'
    shared = {names[family]: re.sub(r'\\|\$', '', pattern) for pattern, names in _SHARED}
    renamed = {}
    for key, value in tensors.items():
        found = re.match(r'(encoder\.layers\.encoder_layer_|layers\.)(\d+)\.', key)
        start = key[: found.end()] if found else ''
        names = {theirs: ours for ours, theirs in _BLOCK[library].items()} if found else shared
        rest = key[len(start) :]
        theirs = next((theirs for theirs in names if rest.startswith(theirs)), '')
        block = f'blocks.{found[2]}.' if found else ''
        renamed[block + names[theirs] + rest[len(theirs) :] if theirs else key] = value
    return renamed


def _from_dinov2(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translates DINOv2's own files. They have blocks in chunks, other names for gated layers, and
    registers; with registers, timm has the position of the class token added to the token."""
    renamed = {}
    for key, value in tensors.items():
        key = re.sub(r'^blocks\.\d+\.(\d+)\.', r'blocks.\1.', key)
        renamed[key.replace('.mlp.w12.', '.mlp.fc1.').replace('.mlp.w3.', '.mlp.fc2.')] = value
    if 'register_tokens' in renamed and {'cls_token', 'pos_embed'} <= renamed.keys():
        positions = renamed['pos_embed']
        renamed['reg_token'] = renamed.pop('register_tokens')
        renamed['cls_token'] = renamed['cls_token'] + positions[:, :1]
        renamed['pos_embed'] = positions[:, 1:]
    return renamed


def name_in(key: str, target: str) -> Optional[str]:
    """The name in 'torchvision', 'mmpretrain' or 'mmseg' of a tensor that has a name of timm's.
    None if their plain transformers have no such part."""
    family = 'torchvision' if target == 'torchvision' else 'mm'
    for pattern, names in _SHARED:
        found = re.match(pattern, key)
        if found:
            return names[family] + key[found.end() :]
    found = re.match(r'blocks\.(\d+)\.', key)
    if found:
        rest = key[found.end() :]
        for ours, theirs in _BLOCK[target].items():
            if rest.startswith(ours):
                layer = (
                    f'encoder.layers.encoder_layer_{found[1]}.'
                    if family == 'torchvision'
                    else f'layers.{found[1]}.'
                )
                return layer + theirs + rest[len(ours) :]
    return None
