"""Checks whether tensors fit a module, and says in a few lines where they do not."""

import re
from collections.abc import Mapping

from torch import Tensor

from plrc_plugin.checkpoints.nearest import nearest_trunk
from plrc_plugin.errors import SettingsError

SHOWN = 5  # lines of a list in a message


def is_counter(key: str) -> bool:
    """Whether the name is that of a step counter of batch normalisation. Old checkpoints lack it,
    and nothing computes with it."""
    return key.endswith('num_batches_tracked')


def check_values(path: str, state: Mapping[str, Tensor]) -> None:
    """Raises SettingsError for weights that are quantised or in half precision.

    Args:
        path: the file.
        state: its tensors.
    """
    for key, value in state.items():
        few_bits = value.is_floating_point() and value.element_size() < 2
        if value.is_quantized or few_bits or (not value.is_floating_point() and value.dim() > 1):
            if re.search(r'(index|coords|mask|queue\w*|ids)$', key):
                continue
            raise SettingsError(
                f'{path} is quantised ({key} is {str(value.dtype)[6:]}): training needs the float32'
                ' weights that it was made from'
            )
        if value.is_floating_point() and value.element_size() < 4:
            raise SettingsError(
                f'{path} is in half precision ({key} is {str(value.dtype)[6:]}): its weights are '
                'rounded. Give the float32 file, or accept the rounding by `python '
                f'tools/export_checkpoint.py {path} <new file> --to plrc --float32`'
            )


def check_fit(
    path: str, places: Mapping[str, Mapping[str, Tensor]], tensors: Mapping[str, Tensor]
) -> None:
    """Raises SettingsError unless the tensors and the places match one to one, in name and shape.

    Args:
        path: the file of the tensors, for messages.
        places: state dicts of the modules to fill, by their name in the model.
        tensors: under the names of the modules.

    Parts that only the model has may stay new; see :func:`new_parts`.
    """
    problems, used = [], set()
    for name, state in places.items():
        wanted = {key for key in state if not is_counter(key)}
        matched = wanted & tensors.keys()
        used |= matched
        problems += [
            f'{name}.{key}: {tuple(tensors[key].shape)} in the checkpoint, '
            f'{tuple(state[key].shape)} in the model'
            for key in sorted(matched)
            if tensors[key].shape != state[key].shape
        ]
        # The last stage of a C4 detector comes from the trunk; only the norm after it is new.
        new = new_parts(wanted - matched, tensors) if name == 'backbone' else set()
        problems += [
            f'{name}.{key}: not in the checkpoint'
            for key in sorted(wanted - matched - new)
            if name == 'backbone' or not key.startswith('norm.')
        ]
    problems += [
        f'{key}: no place in {" or ".join(places)}'
        for key in sorted(tensors.keys() - used)
        if not is_counter(key)
    ]
    if problems:
        shown = problems[:SHOWN]
        more = len(problems) - len(shown)
        raise SettingsError(
            f'{path} does not fit the model ({len(problems)} of its tensors):\n  '
            + '\n  '.join(shown)
            + (f'\n  and {more} more' if more else '')
            + f'\n{nearest_trunk(tensors, places.get("backbone", {}))}'
        )


def new_parts(missing: set[str], tensors: Mapping[str, Tensor]) -> set[str]:
    """Those of the ``missing`` names that belong to parts which only the model has.

    Such a part is a module inside a block whose name no tensor of the checkpoint has anywhere (an
    offset of a deformable convolution, a context block), or a norm of its own at the end of a
    stage (Swin's ``norm0``). The further blocks of a deeper network do not count, as blocks are
    numbered, and neither does a module that other blocks of the checkpoint have.
    """
    roots = {key.partition('.')[0] for key in tensors}
    known = {part for key in tensors for part in key.split('.')}
    new = set()
    for key in missing:
        root, *inner = key.split('.')[:-1] or [key]
        first_unknown = next((module for module in inner if module not in known), None)
        if root not in roots:
            is_new = re.fullmatch(r'norm\d+', root) is not None
        else:
            is_new = first_unknown is not None and not first_unknown.isdigit()
        if is_new:
            new.add(key)
    return new


def listed(names: list[str]) -> str:
    """The names of tensors in one line. Many of them are shortened to their modules, with ``*`` for
    numbers."""
    if len(names) > SHOWN:
        modules = (re.sub(r'\.\d+(?=\.|$)', '.*', name.rpartition('.')[0]) for name in names)
        names = list(dict.fromkeys(modules))
    more = len(names) - 2 * SHOWN
    return ', '.join(names[: 2 * SHOWN]) + (f' and {more} more' if more > 0 else '')
