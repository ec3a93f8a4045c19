"""Divides a trunk of any kind into stages, from its stem to its last map."""

import re

from torch import nn

# Names of the children that hold the stages of a trunk, and of those that are one stage.
_HOLDERS = ('stages', 'layers', 'blocks', 'features', 'trunk_output')
_STAGE = re.compile(r'(layer|s|block|denseblock)\d+')
_OF_NEXT = re.compile(r'PatchMerging|_Transition')  # modules that belong to the next stage


def stages_of(trunk: nn.Module) -> list[list[str]]:
    """Returns the names of a trunk's parameters, by stage.

    Stage 0 is the stem; that of a transformer has its patch embedding, tokens and position
    embeddings. Each block of a transformer is a stage. A module after the last stage, such as a
    norm, belongs to the last stage. A module that halves the map between two stages belongs to the
    second. Models of timm are divided as timm divides them.

    Returns:
        One list for each stage, stem first. A trunk of an unknown kind is divided into its
        children.
    """
    names = [name for name, _ in trunk.named_parameters()]
    places = _by_timm(trunk) if hasattr(trunk, 'group_matcher') else _by_names(trunk)
    if len(set(places.values())) < 3:
        children = [name for name, _ in trunk.named_children()]
        places = {name: children.index(name) for name in children}
    stages: dict[int, list[str]] = {0: []}
    for name in names:
        stages.setdefault(_place(name, places), []).append(name)
    return [stages[place] for place in sorted(stages)]


def _place(name: str, places: dict[str, int]) -> int:
    """The stage of the longest prefix that has one. Parameters of the trunk itself are in stage
    0."""
    parts = name.split('.')
    prefixes = ('.'.join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((places[prefix] for prefix in prefixes if prefix in places), 0)


def _by_timm(trunk: nn.Module) -> dict[str, int]:
    from timm.models import group_parameters

    groups = group_parameters(trunk, trunk.group_matcher(coarse=True))
    places = {name: place for place, names in groups.items() for name in names}
    last = max(places.values(), default=0)
    tail = [name for name, place in places.items() if place == last]
    if last > 1 and not any(re.search(r'\d', name) for name in tail):
        places.update(dict.fromkeys(tail, last - 1))  # a norm behind the stages
    return places


def _by_names(trunk: nn.Module) -> dict[str, int]:
    places: dict[str, int] = {}
    last = 0
    for name, child in trunk.named_children():
        if name in _HOLDERS and isinstance(child, (nn.ModuleList, nn.Sequential)):
            waiting: list[str] = []
            for inner, element in child.named_children():
                path = f'{name}.{inner}'
                of_next = _OF_NEXT.match(type(element).__name__) or _halves(element)
                is_stage = inner.isdigit() if inner != '0' else name != 'features'
                if not is_stage and not _STAGE.fullmatch(inner) and not of_next:
                    places[path] = last  # the stem, or a norm behind the stages
                    continue
                waiting.append(path)
                if of_next:
                    continue
                if any(True for _ in element.parameters()):
                    last += 1
                    places.update(dict.fromkeys(waiting, last))
                    waiting = []
        elif name == 'downsample_layers':  # mmpretrain's ConvNeXt
            places.update({f'{name}.{i}': i for i in range(len(child))})
        elif _STAGE.fullmatch(name):
            last += 1
            places[name] = last
        elif re.fullmatch(r'norm\d', name):  # of the map of one stage
            places[name] = int(name[4:]) + 1
        else:
            places[name] = last
    return places


def _halves(element: nn.Module) -> bool:
    """Whether it is torchvision's ConvNeXt between two stages: a norm and a convolution."""
    kinds = [type(child).__name__ for child in element.children()]
    return kinds == ['LayerNorm2d', 'Conv2d']
