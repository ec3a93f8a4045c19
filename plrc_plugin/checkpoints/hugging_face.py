"""Models of Hugging Face transformers under the names of torchvision and timm."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_RESNET = (
    (r'embedder\.embedder\.convolution', 'conv1'),
    (r'embedder\.embedder\.normalization', 'bn1'),
    (r'encoder\.stages\.(\d+)\.layers\.', lambda found: f'layer{int(found[1]) + 1}.'),
    (r'shortcut\.convolution', 'downsample.0'),
    (r'shortcut\.normalization', 'downsample.1'),
    (r'\.layer\.(\d)\.convolution', lambda found: f'.conv{int(found[1]) + 1}'),
    (r'\.layer\.(\d)\.normalization', lambda found: f'.bn{int(found[1]) + 1}'),
)
_CONVNEXT = (
    (r'embeddings\.patch_embeddings\.', 'stem.0.'),
    (r'embeddings\.layernorm\.', 'stem.1.'),
    (r'encoder\.stages\.(\d)\.layers\.', r'stages.\1.blocks.'),
    (r'encoder\.stages\.(\d)\.downsampling_layer\.', r'stages.\1.downsample.'),
    (r'^layernorm\.', 'head.norm.'),
    (r'\.layer_scale_parameter$', '.gamma'),
    (r'\.dwconv\.', '.conv_dw.'),
    (r'\.layernorm\.', '.norm.'),
    (r'\.pwconv(\d)\.', r'.mlp.fc\1.'),
)
_VIT = (
    (r'^embeddings\.(cls_token|mask_token|register_tokens)', r'\1'),
    (r'^embeddings\.position_embeddings', 'pos_embed'),
    (r'^embeddings\.patch_embeddings\.(projection\.)?', 'patch_embed.proj.'),
    (r'^(encoder\.layer|layer|model\.layer|encoder\.layers)\.(\d+)\.', r'blocks.\2.'),
    (r'^layernorm\.', 'norm.'),
    (r'\.layernorm_before\.', '.norm1.'),
    (r'\.layernorm_after\.', '.norm2.'),
    (r'\.attention\.(?:attention\.)?(query|key|value)\.', r'.attn.\1.'),
    (r'\.attention\.([qkv])_proj\.', r'.attn.\1.'),
    (r'\.attention\.(output\.dense|o_proj)\.', '.attn.proj.'),
    (r'\.(intermediate\.dense|mlp\.up_proj|mlp\.weights_in)\.', '.mlp.fc1.'),
    (r'\.(output\.dense|mlp\.down_proj|mlp\.weights_out)\.', '.mlp.fc2.'),
)


def resnet_name(key: str) -> str:
    """``encoder.stages.0.layers.1.layer.0.convolution.weight`` -> ``layer1.1.conv1.weight``."""
    return _renamed(key, _RESNET)


def convnext_name(key: str) -> str:
    """``encoder.stages.0.layers.1.dwconv.bias`` -> ``stages.0.blocks.1.conv_dw.bias``."""
    return _renamed(key, _CONVNEXT)


def vit_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns tensors of ViT, DeiT, DINOv2 and DINOv3 under timm's names. Models with registers get
    DINOv2's own names.

    Query, key and value become one tensor. DINOv3 has no bias for the key; there the biases of
    query and value stay separate, as timm has them.
    """
    named = {_renamed(key, _VIT): value for key, value in tensors.items()}
    named.pop('mask_token', None)
    is_third = 'pos_embed' not in named
    found = {}
    for key, value in named.items():
        parts = re.fullmatch(r'(.*\.attn\.)(query|key|value|[qkv])\.(weight|bias)', key)
        if parts is None:
            found[key] = value
        elif parts[2][0] == 'q':
            names = ('q', 'k', 'v') if parts[2] == 'q' else ('query', 'key', 'value')
            three = [named.get(f'{parts[1]}{name}.{parts[3]}') for name in names]
            if all(one is not None for one in three):
                found[f'{parts[1]}qkv.{parts[3]}'] = torch.cat(three)
            elif three[2] is not None:
                found[f'{parts[1]}q_bias'], found[f'{parts[1]}v_bias'] = three[0], three[2]
    if is_third:  # rotary embeddings: timm's Eva has other names for scales and registers
        found = {
            re.sub(r'\.layer_scale(\d)\.lambda1$', r'.gamma_\1', key): value
            for key, value in found.items()
        }
        if 'register_tokens' in found:
            found['reg_token'] = found.pop('register_tokens')
        return found
    return {
        re.sub(r'\.layer_scale(\d)\.lambda1$', r'.ls\1.gamma', key): value
        for key, value in found.items()
    }


def _renamed(key: str, rules: tuple) -> str:
    for pattern, name in rules:
        key = re.sub(pattern, name, key)
    return key
