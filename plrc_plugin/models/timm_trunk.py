"""Trunks of timm. timm is an extra, and is imported only when a config asks for such a trunk."""

import contextlib
import io
import re
import sys
from collections.abc import Mapping, Sequence
from types import MethodType, ModuleType
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn

from plrc_plugin.checkpoints.input_style import InputStyle
from plrc_plugin.errors import SettingsError, check_shares
from plrc_plugin.models.input_channels import check_channels
from plrc_plugin.registry import MODELS


@MODELS.register_module()
def TimmTrunk(
    name: str,
    output_stride: Optional[int] = None,
    drop_path: float = 0.0,
    in_channels: int = 3,
    out_indices: Optional[Sequence[int]] = None,
    **kwargs: Any,
) -> nn.Module:
    """Returns a model of timm up to its last map. It keeps timm's parameter names.

    Convolutional and hierarchical models give the map of their last stage. Some have a wide
    convolution for their classifier behind it, which is left out. Plain vision transformers give
    their normalised patch tokens as a map; class and register tokens take part in the attention but
    not in the map. Parts that only classification uses are removed.

    Args:
        name: name of the model in ``timm.list_models()``, e.g. 'convnext_tiny',
            'vit_small_patch16_224', 'vit_small_patch16_dinov3' or 'tf_efficientnet_lite0'.
        output_stride: 8 or 16 for a finer last map, if timm can dilate the stages of the model.
            Defaults to the model's own stride, mostly 32.
        drop_path: rate of stochastic depth. Defaults to 0.
        in_channels: of the images, 1 to 16. Defaults to 3.
        out_indices: stages whose maps a detector takes, e.g. (0, 1, 2, 3), counted as timm's
            ``forward_intermediates`` does. Defaults to the last map alone, as pre-training has it.
        **kwargs: arguments of timm's builder except ``pretrained``, e.g. ``img_size`` for a model
            that takes images of one size.

    Returns:
        A module that turns images (B, 3, H, W) into a tuple of maps (B, C, h, w), one unless
        ``out_indices`` names more. Its attributes are ``input_style``, what the model's weights
        expect of images; ``probe_size``, a side of images that it takes; ``left_out``, names of
        timm's parts that it lacks; and ``converted``, a function from tensors under the names of
        the model's authors to timm's names.

    Raises:
        SettingsError: if timm is missing, has no such model, or the model gives no map.
    """
    if not isinstance(name, str):
        raise SettingsError(f'TimmTrunk: name must be that of a model, got {name!r}')
    timm = _timm()
    if 'in_chans' in kwargs:
        raise SettingsError(
            'TimmTrunk: write in_channels in place of in_chans, as for other trunks'
        )
    for refused in ('pretrained', 'checkpoint_path', 'features_only'):
        if refused in kwargs:
            raise SettingsError(
                f'TimmTrunk: leave {refused} out; to start from weights, set pretrained=<file> in '
                'the config, which fills both encoders'
            )
    if not timm.is_model(name):
        near = timm.list_models(f'*{name.split("_")[0]}*')[:3]
        raise SettingsError(
            f'TimmTrunk: timm {timm.__version__} has no model {name!r}'
            + (f'; it has {", ".join(near)}, ...' if near else '')
        )
    check_channels('TimmTrunk', in_channels)
    check_shares('TimmTrunk', drop_path=drop_path)
    if in_channels != 3:
        kwargs['in_chans'] = in_channels
    if output_stride is not None:
        kwargs['output_stride'] = output_stride
    if drop_path:
        kwargs['drop_path_rate'] = drop_path
    with torch.device('meta'):
        options, draft = _draft(timm, name, kwargs)
        plan = _plan(name, draft, in_channels, out_indices)
    model = timm.create_model(name, **options)
    for path in plan.unused:
        _remove(model, path)
    model.left_out = plan.unused
    model.map_options = plan.map_options
    model.in_channels = in_channels
    if in_channels == 3:
        model.input_style = _input_style(model.pretrained_cfg)
    model.probe_size = plan.size
    model.is_init = True  # mmengine would call timm's init_weights a second time
    model.forward = MethodType(_checked_map, model)
    model.converted = MethodType(_converted, model)
    return model


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise SettingsError(
            "TimmTrunk needs timm: pip install 'plrc_plugin[timm]', or pip install 'timm>=1.0'"
        ) from error
    return timm


# Arguments that make models of one size take images of other sizes.
_ANY_SIZE = (dict(dynamic_img_size=True), dict(strict_img_size=False), {})


def _draft(timm: ModuleType, name: str, kwargs: dict) -> tuple[dict, nn.Module]:
    """Returns the builder's arguments, and a model on the meta device that was made with them."""
    message = ''
    for extra in _ANY_SIZE:
        options = {**extra, **kwargs}
        try:
            return options, timm.create_model(name, **options).eval()
        except Exception as error:  # builders raise many kinds for arguments that they do not know
            message = ' '.join(str(error).split()) or type(error).__name__
    given = ', '.join(f'{key}={value!r}' for key, value in kwargs.items())
    raise SettingsError(
        f'TimmTrunk: timm cannot build {name} with {given or "its own settings"}: {message[:200]}'
    )


class _Plan(NamedTuple):
    """How a model gives its map.

    Attributes:
        map_options: arguments of timm's ``forward_intermediates``; None for ``forward_features``.
        unused: paths of modules that the map does not need.
        size: a side of images that the model takes, in pixels.
    """

    map_options: Optional[dict]
    unused: list[str]
    size: int


_TOKENS_AS_MAP = dict(indices=1, stop_early=False, output_fmt='NCHW', intermediates_only=True)


def _plan(
    name: str, draft: nn.Module, channels: int, out_indices: Optional[Sequence[int]]
) -> _Plan:
    """Tries the ways in which timm's models give maps, and returns the first that works."""
    own = draft.pretrained_cfg['input_size'][-1]
    own = getattr(getattr(draft, 'patch_embed', None), 'img_size', None) or own
    own = own[0] if isinstance(own, (tuple, list)) else own
    called: set[str] = set()
    hooks = [
        module.register_forward_hook(lambda *_, path=path: called.add(path.partition('.')[0]))
        for path, module in draft.named_modules()
    ]
    for size in (128, 112, own):
        ways = (None, dict(_TOKENS_AS_MAP, norm=True), dict(_TOKENS_AS_MAP, norm=False))
        if out_indices is not None:
            ways = tuple({**way, 'indices': list(out_indices)} for way in ways[:0:-1])
        for options in ways:
            draft.map_options = options
            called.clear()
            try:
                with torch.no_grad():
                    features = _maps(draft, torch.zeros(2, channels, size, size))[-1]
            except Exception:  # the model has no such way
                continue
            if isinstance(features, Tensor) and features.dim() == 4:
                for hook in hooks:
                    hook.remove()
                unused = [
                    child
                    for child, module in draft.named_children()
                    if child not in called and any(True for _ in module.parameters())
                ]
                heads = _head_convolutions(draft, channels, size) if options is None else []
                return _Plan(options, list(dict.fromkeys(unused + heads)), size)
    raise SettingsError(
        f'TimmTrunk: {name} gives no last map: choose a convolutional or hierarchical model, or a '
        'vision transformer'
    )


def _head_convolutions(draft: nn.Module, channels: int, size: int) -> list[str]:
    """Paths of the modules between the last stage and the classifier of a convolutional model. They
    are found by timm's record of stages and by timm's name for such a convolution."""
    children = dict(draft.named_children())
    found = [name for name in ('conv_head', 'final_conv') if name in children]
    if 'conv_head' in children and 'bn2' in children:
        found.append('bn2')
    stages = getattr(draft, 'feature_info', None)
    last = stages[-1] if isinstance(stages, list) and stages else {}
    container, _, number = str(last.get('module')).rpartition('.')
    if number.isdigit() and container in children and 'num_chs_norm' not in last:
        final = len(children[container]) - 1  # further blocks of the last stage may come first
        found += [f'{container}.{final}'] if final > int(number) else []
    modules = dict(draft.named_modules())
    found = [path for path in found if any(True for _ in modules[path].parameters())]
    for path in found:
        _remove(draft, path)
    try:
        with torch.no_grad():
            (features,) = _maps(draft, torch.zeros(1, channels, size, size))
    except Exception:  # the model needs this module
        return []
    if last.get('module') in found or 'num_chs' not in last:
        return found
    return found if features.shape[1] == last['num_chs'] else []


def _remove(model: nn.Module, path: str) -> None:
    parent, _, name = path.rpartition('.')
    setattr(model.get_submodule(parent), name, nn.Identity())


def _maps(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Turns images (B, 3, H, W) into a tuple of maps (B, C, h, w): the last, or those asked for."""
    if model.map_options is not None:
        return tuple(model.forward_intermediates(images, **model.map_options))
    features = model.forward_features(images)
    if features.dim() != 4:
        raise ValueError('tokens, or several outputs')
    if getattr(model, 'output_fmt', 'NCHW') == 'NHWC':
        features = features.permute(0, 3, 1, 2)
    return (features,)


def _checked_map(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Calls :func:`_maps`; the error for a size that the model cannot take names the size."""
    try:
        return _maps(model, images)
    except (AssertionError, RuntimeError) as error:
        sides, known = tuple(images.shape[2:]), (model.probe_size,) * 2
        of_sizes = isinstance(error, AssertionError) or re.search('shape|size of', str(error))
        if sides == known or not of_sizes:
            raise
        raise SettingsError(
            f'TimmTrunk: the model does not take images of {sides[0]} x {sides[1]} '
            f'({" ".join(str(error).split())[:120]}): set the size of TwoViews to a multiple of '
            f'its patches, or img_size of the backbone; it takes {known[0]} x {known[1]}'
        ) from error


def _converted(model: nn.Module, tensors: Mapping[str, Tensor]) -> Optional[dict[str, Tensor]]:
    """Gives tensors of the model's authors timm's names, by timm's own conversion. None if timm has
    no conversion for this kind of model, or if it fails."""
    convert = getattr(sys.modules[type(model).__module__], 'checkpoint_filter_fn', None)
    if convert is None:
        return None
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # some conversions print what they try
            found = convert(dict(tensors), model)
    except Exception:  # conversions raise many kinds for other files
        return None
    return {key: value for key, value in found.items() if isinstance(value, Tensor)}


def _input_style(data_config: dict) -> InputStyle:
    """The input style in timm's data config, whose values are for pixels in [0, 1]."""
    return InputStyle(
        tuple(255 * value for value in data_config['mean']),
        tuple(255 * value for value in data_config['std']),
    )
