"""Plain vision transformers: timm's names, and those of torchvision, mmpretrain and mmseg."""

import re
from typing import Optional

from torch import Tensor

from plrc_plugin.checkpoints.misfit import listed
from plrc_plugin.errors import SettingsError

# Patterns of timm's names, and what stands for them elsewhere. Norms of layers share an epsilon of
# 1e-6, which is the default of torchvision and mmpretrain, and norm_cfg's of mmseg.
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
    },
}
_BLOCK['mmseg'] = {
    **_BLOCK['mmpretrain'],
    'attn.qkv.': 'attn.attn.in_proj_',
    'attn.proj.': 'attn.attn.out_proj.',
}


def is_vit(trunk: dict[str, Tensor]) -> bool:
    """Whether the names are those of timm's plain vision transformers."""
    return {'patch_embed.proj.weight', 'blocks.0.attn.qkv.weight'} <= trunk.keys()


def vit_for(trunk: dict[str, Tensor], target: str) -> dict[str, Tensor]:
    """A vision transformer under the names of 'torchvision', 'mmpretrain' or 'mmseg'.

    Raises:
        SettingsError: with a list, if it has parts that the target's transformer has not, such as
            registers, scales of layers or rotary embeddings.
    """
    renamed, strange = {}, []
    for key, value in trunk.items():
        name = _name_in(key, target)
        if name is None:
            strange.append(key)
        else:
            renamed[name] = value
    if 'pos_embed' not in trunk or 'cls_token' not in trunk:
        strange.append('no cls_token, or no pos_embed for it')
    elif trunk['pos_embed'].shape[1] != _grid(trunk['pos_embed']) ** 2 + 1:
        strange.append(f'pos_embed of {trunk["pos_embed"].shape[1]} tokens')
    if strange:
        raise SettingsError(
            f"{target}'s vision transformer is a plain one, and this trunk has further parts: "
            f'{listed(strange)}; timm, plrc and safetensors take it'
        )
    return renamed


def _grid(pos_embed: Tensor) -> int:
    return int((pos_embed.shape[1] - 1) ** 0.5)


def _name_in(key: str, target: str) -> Optional[str]:
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
