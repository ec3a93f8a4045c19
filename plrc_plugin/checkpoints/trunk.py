"""The trunk of a checkpoint of any framework, and the models that it fills."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Optional, Union

import torch
from torch import Tensor, nn

from plrc_plugin.checkpoints.channels import adapt_channels
from plrc_plugin.checkpoints.file_kinds import check_kind_of_file, is_index, joined_pieces
from plrc_plugin.checkpoints.input_style import InputStyle, check_style, style_told
from plrc_plugin.checkpoints.layouts import HEADS, Candidate, candidates, flat_state
from plrc_plugin.checkpoints.misfit import check_fit, check_values, is_counter, listed
from plrc_plugin.checkpoints.positions import fit_positions, fits
from plrc_plugin.checkpoints.safe_reading import load_tensors
from plrc_plugin.checkpoints.vit_names import translations
from plrc_plugin.errors import SettingsError

TRUNK = 'backbone'
ANCHOR = 'anchor_backbone'  # the trunk of the start, in a model that keeps near it
# Every place of a detector or segmenter that continues the trunk.
PLACES = (TRUNK, 'roi_head.shared_head')


class WeightsFile(NamedTuple):
    """A file of weights.

    Attributes:
        path: of the file.
        state: all its tensors, see :func:`~plrc_plugin.checkpoints.layouts.flat_state`.
        content: what it holds, tensors and text and numbers, as it is nested in the file.
    """

    path: str
    state: dict[str, Tensor]
    content: dict


def read_file(path: str, half: bool = False) -> WeightsFile:
    """Opens a checkpoint of any framework.

    Args:
        path: of a ``.pth``, ``.pth.tar``, ``.ckpt``, ``.pkl`` or ``.safetensors`` file, or of the
            ``.index.json`` of a model that is spread over several files.
        half: take weights in half precision too, as float32.

    Raises:
        SettingsError: if it holds no tensors, a piece of a model, or weights that are rounded.
    """
    path = os.path.expanduser(str(path))
    check_kind_of_file(path)
    content = joined_pieces(path) if is_index(path) else load_tensors(path)
    state = flat_state(content)
    if half:
        state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    check_values(path, state)
    return WeightsFile(path, state, content)


class FoundTrunk(NamedTuple):
    """The trunk that a file holds: tensors under the names of the module that it was looked for,
    the prefix in the file, whose layout it is, and what the file tells of the trunk's input."""

    tensors: dict[str, Tensor]
    prefix: str
    layout: str
    style: Optional[InputStyle]


def find_trunk(
    file: WeightsFile,
    like: Optional[Mapping[str, Tensor]] = None,
    prefix: Optional[str] = None,
    module: Optional[nn.Module] = None,
) -> FoundTrunk:
    """The trunk among the tensors of a file.

    Args:
        file: of :func:`read_file`.
        like: the state dict of the module to fill. Without it, the first layout that is recognised.
        prefix: where the trunk lives; found by itself when None.
        module: the module to fill itself, which may know further names, see :class:`TimmTrunk`.

    Raises:
        SettingsError: if there is no tensor at all.
    """
    if module is not None:
        like = module.state_dict()
    found = [c for c in candidates(file.state, like or (), prefix) if c.tensors]
    if not found:
        heads = [key for key in file.state if HEADS.match(key)]
        if heads and len(heads) == len(file.state):
            shown = ', '.join(f'{k} {tuple(file.state[k].shape)}' for k in heads[:3])
            raise SettingsError(
                f'{file.path} holds no trunk, only a head ({shown}): give the file that has the '
                'trunk below it'
            )
        first = ', '.join(list(file.state)[:3])
        raise SettingsError(
            f'{file.path} holds no trunk{f" under {prefix!r}" if prefix else ""}: '
            + (f'its tensors begin with {first}' if first else 'there is no tensor in it')
            + '. docs/weights.md lists the files that are read'
        )
    if like:
        found = [_ordered(candidate, like) for candidate in found]
        found += [one for candidate in found for one in _translated(candidate, module)]
        best = max(found, key=lambda candidate: _matches(candidate.tensors, like))
    else:
        best = found[0]
    style = style_told(file.path, file.content, best.layout.style)
    return FoundTrunk(best.tensors, best.prefix, best.layout.name, style)


def _matches(tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> float:
    """How many tensors fit; a name of another shape counts little, and decides where none fits."""
    common = [key for key in tensors if key in like]
    fitting = sum(fits(key, tensors, like) for key in common)
    return fitting + len(common) / (len(like) + 1) / 2


def _translated(candidate: Candidate, module: Optional[nn.Module]) -> Iterator[Candidate]:
    """The trunk under the names that it has in other libraries."""
    for name, tensors in translations(candidate.tensors):
        layout = candidate.layout._replace(name=f'{candidate.layout.name}; names {name}')
        yield candidate._replace(tensors=tensors, layout=layout)
    converted = getattr(module, 'converted', None)
    tensors = converted(candidate.tensors) if converted is not None else None
    if tensors:
        layout = candidate.layout._replace(name=f'{candidate.layout.name}; converted by timm')
        yield candidate._replace(tensors=tensors, layout=layout)


def _ordered(candidate: Candidate, like: Mapping[str, Tensor]) -> Candidate:
    """Gives the tensors of an ``in_order`` layout the names of ``like``, if all of them fit."""
    if not candidate.layout.in_order:
        return candidate
    ours = [key for key in candidate.tensors if not is_counter(key)]
    theirs = [key for key in like if not is_counter(key)]
    ours, behind = ours[: len(theirs)], ours[len(theirs) :]
    if not all(re.match(candidate.layout.behind, key) for key in behind):
        return candidate
    fits = len(ours) == len(theirs) and all(
        candidate.tensors[a].shape == like[b].shape and a.split('.')[-1] == b.split('.')[-1]
        for a, b in zip(ours, theirs)
    )
    if not fits:
        return candidate
    return candidate._replace(tensors={b: candidate.tensors[a] for a, b in zip(ours, theirs)})


def read_trunk(
    path: str, prefix: Optional[str] = None, like: Optional[Mapping[str, Tensor]] = None
) -> tuple[dict[str, Tensor], str]:
    """The trunk of a checkpoint of any layout that :mod:`~plrc_plugin.checkpoints.layouts` knows.

    Args:
        path: a ``.pth``, ``.pth.tar``, ``.pkl`` or ``.safetensors`` file.
        prefix: where the trunk lives, such as ``momentum_backbone.``; found by itself when None.
        like: the state dict of the module to fill, which tells layouts apart.

    Returns:
        The trunk's tensors under the names of torchvision and mmdet (``conv1.weight``,
        ``layer1.0.conv1.weight``, ...; other kinds of trunk keep their own), and the prefix.

    Raises:
        SettingsError: if there is nothing under ``prefix``, or no tensor at all.
    """
    return find_trunk(read_file(path), like, prefix)[:2]


def refuse_non_finite(path: Optional[str], tensors: dict) -> None:
    """Raises SettingsError if weights are infinite or NaN: the run that made them had gone wrong,
    and the one that starts from them would be blamed."""
    spoilt = [
        key
        for key, value in tensors.items()
        if isinstance(value, Tensor) and value.is_floating_point() and not value.isfinite().all()
    ]
    if spoilt:
        raise SettingsError(
            f'{path}: {len(spoilt)} tensors are not finite, first {spoilt[0]}: the run that made '
            'them had gone wrong. Take an earlier checkpoint of it'
        )


@torch.no_grad()
def fill_model(
    model: nn.Module,
    path: str,
    parts: Union[str, Sequence[str]] = (TRUNK,),
    style: Optional[InputStyle] = None,
    channels: Optional[str] = None,
) -> list[str]:
    """Fills a model of pre-training from a checkpoint: nothing is filled unless all of it fits.

    Every part that has a momentum twin, ``momentum_<part>``, fills that too, and the trunk fills
    the anchor of a model that keeps one.

    Args:
        model: with a ``backbone``.
        path: what :func:`read_trunk` reads.
        parts: names of the model's modules to fill. All but ``backbone`` are looked for under the
            same names, as checkpoints of PLRC have them; 'all' stands for every one of them.
        style: what the weights expect of images, of a file that does not tell.
        channels: 'mean' or 'repeat', how weights of RGB become those of a trunk of other channels,
            see :func:`~plrc_plugin.checkpoints.channels.adapt`.

    Returns:
        Where the trunk was found, then one line per module: how many tensors it got; and what the
        weights expect of images.

    Raises:
        SettingsError: with a short list, if something does not fit.
    """
    file = read_file(path)
    modules = {name: module for name, module in model.named_children() if module.state_dict()}
    anchor = modules.pop(ANCHOR, None)
    if parts == 'all':
        parts = list(modules)
    parts = [parts] if isinstance(parts, str) else list(parts)
    unknown = [name for name in parts if name not in modules]
    if unknown:
        raise SettingsError(
            f'pretrained_parts: the model has no {unknown[0]!r}; it has {", ".join(modules)}; '
            "'all' stands for every one of them"
        )
    lines, input_line, filled = [], '', {}
    for name in parts:
        like = modules[name].state_dict()
        if name == TRUNK:
            found = find_trunk(file, module=modules[name])
            lines.append(f'{path} ({found.layout}; under {found.prefix!r}):')
            tensors, behind = _without_heads(modules[name], found.tensors)
            if behind:
                lines[0] += f' left out, as the trunk has not: {", ".join(behind)}'
            lines += adapt_channels(path, modules[name], tensors, channels)
            lines += fit_positions(modules[name], tensors)
            own = getattr(modules[name], 'input_style', InputStyle())
            input_line = check_style(path, style or found.style, own, model)
        else:
            tensors = {
                key[len(name) + 1 :]: value
                for key, value in file.state.items()
                if key.startswith(f'{name}.')
            }
            if not tensors:
                raise SettingsError(
                    f'pretrained_parts: {path} has no {name!r}; its parts are '
                    f'{", ".join(dict.fromkeys(key.partition(".")[0] for key in file.state))}'
                )
        check_fit(path, {name: like}, tensors)
        refuse_non_finite(path, tensors)
        filled[name] = tensors
    for name in list(filled):
        twin = f'momentum_{name}'
        if twin in modules and twin not in filled:
            filled[twin] = filled[name]
    if anchor is not None and TRUNK in filled:
        modules[ANCHOR], filled[ANCHOR] = anchor, filled[TRUNK]
    for name, tensors in filled.items():
        lines.append(_copy(name, modules[name].state_dict(), tensors))
    return [*lines, input_line] if input_line else lines


@torch.no_grad()
def load_trunk(model: nn.Module, trunk: dict[str, Tensor]) -> list[str]:
    """Copy a trunk into ``model.backbone`` and, of a C4 detector, ``model.roi_head.shared_head``.

    Args:
        model: detector or segmenter.
        trunk: tensors as from :func:`plrc_plugin.transfer.read_trunk`.

    Returns:
        One line per place: how many tensors matched, and which ones of the place stay new.

    Raises:
        SettingsError: with a short list, if the model has no tensor of the name and shape of
            one of the trunk's, or if the trunk does not fill one of the model's.
    """
    modules = dict(model.named_modules())
    places = {name: modules[name].state_dict() for name in PLACES if name in modules}
    # BN step counters are of no use to these models, and old checkpoints lack them.
    trunk = {key: value for key, value in trunk.items() if not is_counter(key)}
    trunk, _ = _without_heads(modules[TRUNK], trunk)
    lines = fit_positions(modules[TRUNK], trunk)
    check_fit('the checkpoint', places, trunk)
    refuse_non_finite('the checkpoint', trunk)
    return lines + [_copy(name, state, trunk) for name, state in places.items()]


def _without_heads(
    module: nn.Module, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors without those of parts which a trunk says that it has not, and these parts."""
    parts = [f'{part}.' for part in getattr(module, 'left_out', ())]
    kept = {k: v for k, v in tensors.items() if not k.startswith(tuple(parts))}
    return kept, [part[:-1] for part in parts if any(k.startswith(part) for k in tensors)]


def _copy(name: str, state: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    """Copies what ``state`` has of ``tensors``, and says how much that is."""
    for key in state.keys() & tensors.keys():
        state[key].copy_(tensors[key])
    wanted = [key for key in state if not is_counter(key)]
    new = sorted(key for key in wanted if key not in tensors)
    return f'{name}: {len(wanted) - len(new)} of {len(wanted)} tensors loaded' + (
        f', new: {listed(new)}' if new else ''
    )
