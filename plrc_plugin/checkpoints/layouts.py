"""Layouts: where the trunk of a checkpoint lives, and what its parts are called there.

A layout is one entry of :data:`LAYOUTS`, added by :func:`register_layout`, from outside the
package too. Nothing else knows any of them: a file is recognised by trying every entry, and where
the module to fill is known, the entry that fits it best wins.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

from plrc_plugin.checkpoints import hugging_face


def _as_it_is(key: str) -> str:
    return key


class Layout(NamedTuple):
    """One way in which programs write a trunk.

    Attributes:
        name: whose files have this layout.
        place: pattern of the prefix before the names of the trunk.
        is_mark: tells whether a name below the prefix is typical of this layout; one is enough.
        rename: from a name below the prefix to the trunk's own name.
        convert: from the tensors below the prefix, after ``rename``, to the trunk's own, for
            layouts in which new names are not enough.
        beside: pattern that some name anywhere in the file must match.
        in_order: whether the names have nothing in common with the trunk's, so that the tensors are
            matched by their order.
        behind: with ``in_order``, pattern of the parts behind the last stage; a trunk may lack
            them.
        style: the input that trunks of these files expect, by its name in
            :data:`~plrc_plugin.checkpoints.input_style.STYLES`; '' if the layout does not tell.
    """

    name: str
    place: str
    is_mark: Callable[[str], bool] = bool
    rename: Callable[[str], str] = _as_it_is
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
    beside: str = ''
    in_order: bool = False
    behind: str = '$'
    style: str = ''


class Candidate(NamedTuple):
    """A trunk that a file may hold: its tensors, the prefix of their names, and the layout."""

    tensors: dict[str, Tensor]
    prefix: str
    layout: Layout


LAYOUTS: list[Layout] = []


def register_layout(layout: Layout) -> None:
    """Adds a layout. Where several fit a file equally, the one that was added first is taken."""
    LAYOUTS.append(layout)


# Modules that stand beside or behind a trunk under the same prefix, in any layout: classifiers,
# projectors and other parts that only pre-training or only classification uses.
HEADS = re.compile(
    r'(fcs?|fcs_2|fc_norm|heads?|head_\w+|norm_head|classifier|_fc|last_linear|logits|aux\w*|AuxLogits|projection_head'
    r'|\w*projector|predictor|prototypes|mlp_head|mask_token|pooler|neck|queue\w*|decoder\w*|dino_head|ibot_head)(\.|$)'
)
# Containers that training scripts put around a model's tensors, and prefixes that distributed
# training and compilation add to their names. All of them are left out of a name.
CONTAINERS = (
    'state_dict',
    'model',
    'model_state_dict',
    'model_state',
    'classy_state_dict',
    'base_model',
    'net',
    'network',
)
_WRAPPERS = re.compile(r'(^|\.)((module|_orig_mod)\.)+')
_NO_WEIGHTS = re.compile(r'optim|sched|scaler|meta$|message_hub|hyper_param|loops|callbacks')


def flat_state(checkpoint: Mapping) -> dict[str, Tensor]:
    """All tensors of a checkpoint under one name each.

    Nested dictionaries give names with dots, such as ``teacher.backbone.conv1.weight``. Containers,
    wrappers and the state of optimisers are left out.
    """
    found: dict[str, Tensor] = {}

    def walk(content: Mapping, prefix: str) -> None:
        for key, value in content.items():
            if not isinstance(key, str):
                continue
            if isinstance(value, Mapping):
                if not _NO_WEIGHTS.match(key):
                    walk(value, prefix if key in CONTAINERS else f'{prefix}{key}.')
                continue
            if isinstance(value, np.ndarray) and value.dtype.kind in 'fiu':  # detectron2's pickles
                value = torch.from_numpy(value)
            if isinstance(value, Tensor):
                found.setdefault(_WRAPPERS.sub(r'\1', f'{prefix}{key}'), value)

    walk(checkpoint, '')
    return found


def candidates(
    state: Mapping[str, Tensor], like: Collection[str] = (), prefix: Optional[str] = None
) -> Iterator[Candidate]:
    """Yields every trunk that ``state`` may hold, without its heads, the most likely one first.

    Args:
        state: tensors by name, as :func:`flat_state` gives them.
        like: names of the module to fill. If given, every prefix under which most of them stand is
            tried too.
        prefix: the only prefix to look under.
    """
    seen = set()
    for layout in LAYOUTS:
        if layout.beside and not any(re.search(layout.beside, key) for key in state):
            continue
        for place in dict.fromkeys(_places(state, layout.place) if prefix is None else [prefix]):
            below = {k[len(place) :]: v for k, v in state.items() if k.startswith(place)}
            kind = (place, layout.rename, layout.convert)
            if kind in seen or not any(map(layout.is_mark, below)):
                continue
            seen.add(kind)
            # A head whose names the module itself has is part of the trunk.
            roots = {name.partition('.')[0] for name in like}
            kept = {
                layout.rename(key): value
                for key, value in below.items()
                if not HEADS.match(key) or key.partition('.')[0] in roots
            }
            yield Candidate(layout.convert(kept), place, layout)
    if prefix is None:
        for place in _places_of(state, like):
            if (place, _as_it_is, dict) not in seen:
                below = {k[len(place) :]: v for k, v in state.items() if k.startswith(place)}
                yield Candidate(below, place, Layout('its names', re.escape(place)))


def _places(state: Mapping[str, Tensor], pattern: str) -> list[str]:
    starts = (re.match(pattern, key) for key in state)
    return [start.group() for start in starts if start]


def _places_of(state: Mapping[str, Tensor], names: Collection[str]) -> list[str]:
    """Prefixes under which the first three of ``names`` stand."""
    first = list(names)[:3]
    if not first:
        return []
    prefixes = [key[: -len(first[0])] for key in state if ('.' + key).endswith('.' + first[0])]
    return [p for p in prefixes if all(p + name in state for name in first)]


def _detectron2(key: str) -> str:
    """``res2.0.shortcut.norm.bias`` -> ``layer1.0.downsample.1.bias``."""
    key = re.sub(r'^stem\.', '', key)
    key = re.sub(r'^res(\d)', lambda found: f'layer{int(found[1]) - 1}', key)
    key = re.sub(r'shortcut\.norm', 'downsample.1', key)
    key = re.sub(r'shortcut\.', 'downsample.0.', key)
    return re.sub(r'conv(\d)\.norm', r'bn\1', key)


_CAFFE2_PARTS = {
    'branch1': 'downsample.0',
    'branch1_bn': 'downsample.1',
    **{f'branch2{letter}': f'conv{i}' for i, letter in enumerate('abc', 1)},
    **{f'branch2{letter}_bn': f'bn{i}' for i, letter in enumerate('abc', 1)},
}
_CAFFE2_TENSORS = dict(w='weight', s='weight', b='bias', rm='running_mean', riv='running_var')


def _caffe2(key: str) -> str:
    """``res2_0_branch2a_bn_s`` -> ``layer1.0.bn1.weight``."""
    stem, _, kind = key.rpartition('_')
    kind = _CAFFE2_TENSORS.get(kind, kind)
    if stem in ('conv1', 'res_conv1_bn'):
        return f'{"conv1" if stem == "conv1" else "bn1"}.{kind}'
    found = re.fullmatch(r'res(\d)_(\d+)_(\w+)', stem)
    if not found or found[3] not in _CAFFE2_PARTS:
        return key
    return f'layer{int(found[1]) - 1}.{found[2]}.{_CAFFE2_PARTS[found[3]]}.{kind}'


_CHILDREN_OF_RESNET = {'0': 'conv1', '1': 'bn1', **{str(i + 3): f'layer{i}' for i in range(1, 5)}}


def _children_of_resnet(key: str) -> str:
    """``4.0.conv1.weight`` -> ``layer1.0.conv1.weight``."""
    index, _, rest = key.partition('.')
    return f'{_CHILDREN_OF_RESNET.get(index, index)}.{rest}'


def _is_child_of_resnet(key: str) -> bool:
    return re.match(r'4\.0\.conv1\.', key) is not None


def _is_detectron2(key: str) -> bool:
    return re.match(r'res[2-5]\.0\.', key) is not None


def _is_first_of_a_trunk(key: str) -> bool:
    return re.match(r'(conv1|conv_stem|stem|patch_embed|features)\.|cls_token$', key) is not None


def _is_in(name: str) -> Callable[[str], bool]:
    return name.__eq__


_OF_LIGHTLY_TRAIN = r'wrapped_model\.(_model\.|model\.|_features\.)?'

for _layout in (
    Layout("the authors' PLRC", r'encoder_q\.enc\.'),
    Layout('detectron2', r'backbone\.bottom_up\.|backbone\.', _is_detectron2, _detectron2),
    Layout('detectron2', '', _is_detectron2, _detectron2),
    Layout(
        "Detectron's Caffe2 models",
        '',
        lambda key: key.startswith('res2_0_branch'),
        _caffe2,
        style='caffe',
    ),
    *(
        Layout(
            'lightly, a ResNet as nn.Sequential', place, _is_child_of_resnet, _children_of_resnet
        )
        for place in (r'teacher_backbone\.', r'(model\.)?backbone\.', r'student_backbone\.')
    ),
    Layout('a ResNet as nn.Sequential', '', _is_child_of_resnet, _children_of_resnet),
    *(
        Layout(f"Hugging Face's {name}", r'(\w+\.)??(?=embed)', mark, rename, convert)
        for name, mark, rename, convert in (
            (
                'ResNet',
                _is_in('embedder.embedder.convolution.weight'),
                hugging_face.resnet_name,
                dict,
            ),
            ('ConvNeXt', _is_in('embeddings.layernorm.weight'), hugging_face.convnext_name, dict),
            ('ViT', _is_in('embeddings.cls_token'), _as_it_is, hugging_face.vit_tensors),
        )
    ),
    Layout('DINO, its teacher', r'teacher\.backbone\.', style='imagenet'),
    Layout('DINO, its student', r'student\.backbone\.', style='imagenet'),
    Layout('DINO, its teacher', r'teacher\.(?!backbone|head)', style='imagenet'),
    Layout('lightly, DINO', r'teacher_backbone\.'),
    Layout(
        'lightly-train, the teacher of DINO',
        rf'teacher_embedding_model\.{_OF_LIGHTLY_TRAIN}',
        beside=r'teacher_(projection_)?head\.',
    ),
    Layout('lightly-train', rf'(student_|query_encoder\.)?embedding_model\.{_OF_LIGHTLY_TRAIN}'),
    Layout('lightly-train', rf'(\w+\.)*{_OF_LIGHTLY_TRAIN}'),
    Layout('PLRC, mmdet, mmseg, mmpretrain, solo-learn, lightly', r'backbone\.'),
    Layout('VISSL', r'(trunk\.)?_feature_blocks\.', style='imagenet'),
    Layout('VISSL', r'trunk\.(base_model\.)?', style='imagenet'),
    Layout('DenseCL, MMSelfSup', r'encoder_q\.0\.', style='imagenet'),
    Layout('MoCo v1 and v2', r'encoder_q\.', style='imagenet'),
    Layout('MoCo v3, MMSelfSup', r'base_encoder\.0\.', _is_first_of_a_trunk),
    Layout('MoCo v3', r'base_encoder\.', style='imagenet'),
    Layout('BYOL, MMSelfSup', r'online_net\.0\.'),
    Layout('BYOL', r'online_(encoder|network|backbone|net)\.'),
    Layout('SimSiam, MMSelfSup', r'encoder\.0\.', _is_first_of_a_trunk),
    Layout('PixPro, SimSiam, solo-learn', r'encoder\.', _is_first_of_a_trunk),
    Layout("timm's training, its average", r'(state_dict|model)_ema\.'),
    Layout(
        'efficientnet_pytorch',
        '',
        lambda key: key.startswith('_conv_stem.'),
        in_order=True,
        behind=r'_conv_head\.|_bn1\.',
    ),
    Layout('bare (torchvision, timm, mmdet, SwAV, DINO, ...)', ''),
):
    register_layout(_layout)
