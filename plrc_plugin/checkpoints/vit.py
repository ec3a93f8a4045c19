"""Writes timm's plain vision transformers under the names of other libraries."""

from torch import Tensor

from plrc_plugin.checkpoints.misfit import listed
from plrc_plugin.checkpoints.vit_names import name_in
from plrc_plugin.errors import SettingsError


def vit_for(trunk: dict[str, Tensor], target: str) -> dict[str, Tensor]:
    """Returns a vision transformer under the names of 'torchvision', 'mmpretrain' or 'mmseg'.

    Raises:
        SettingsError: with a list, if it has parts that the target's transformer lacks, such as
            registers, scales of layers or rotary embeddings.
    """
    renamed, strange = {}, []
    for key, value in trunk.items():
        name = name_in(key, target)
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
