"""What weights expect of images: normalisation, order of channels, and place of the stride."""

import json
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional, Union

import torch
from torch import Tensor, nn

from plrc_plugin.checkpoints.safe_reading import is_safetensors
from plrc_plugin.errors import SettingsError


class InputStyle(NamedTuple):
    """The input that a trunk was trained with.

    Attributes:
        mean: mean of each of the three channels, for pixels in [0, 255].
        std: standard deviation of each channel, likewise.
        order: 'RGB' or 'BGR'.
        stride_on: '3x3' or '1x1', the convolution of a bottleneck that has the stride.
    """

    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    std: tuple[float, ...] = (58.395, 57.12, 57.375)
    order: str = 'RGB'
    stride_on: str = '3x3'

    def __str__(self) -> str:
        mean, std = (
            '[' + ', '.join(f'{v:.6g}' for v in values) + ']' for values in (self.mean, self.std)
        )
        return f'{self.order}, mean {mean}, std {std}'


STYLES = dict(
    imagenet=InputStyle(),
    half=InputStyle((127.5,) * 3, (127.5,) * 3),
    caffe=InputStyle((103.53, 116.28, 123.675), (1.0, 1.0, 1.0), 'BGR', '1x1'),
)
# The key of a checkpoint's ``meta`` under which the style is kept.
META_KEY = 'input_style'


def as_style(owner: str, given: Union[str, Mapping, InputStyle]) -> InputStyle:
    """Returns the style that a name in :data:`STYLES`, or a mapping of its fields, stands for.

    Raises:
        SettingsError: if it is neither; the message names ``owner``.
    """
    if isinstance(given, InputStyle):
        return given
    try:
        if isinstance(given, str):
            return STYLES[given]
        style = InputStyle(**given)
        mean, std = (tuple(float(value) for value in values) for values in style[:2])
        if len(mean) == len(std) and style.order in ('RGB', 'BGR') and min(std) > 0:
            return style._replace(mean=mean, std=std)
    except (KeyError, TypeError, ValueError):
        pass
    raise SettingsError(
        f'{owner} must be one of {", ".join(STYLES)}, or dict(mean=..., std=..., order=...) for '
        f'pixels in [0, 255], got {given!r}'
    )


def style_told(path: str, checkpoint: Mapping[str, Any], style_name: str) -> Optional[InputStyle]:
    """Returns the style that a file tells: what this package wrote in it, the pixel statistics of
    detectron2's models, the config of timm or Hugging Face beside it, its layout, or its name.

    Args:
        path: the file.
        checkpoint: its content.
        style_name: the style of its layout, or ''.

    Returns:
        The style, or None if the file does not tell.
    """
    told = _meta(path, checkpoint).get(META_KEY)
    if told is not None:
        return as_style(f'{META_KEY} of {path}', told)
    state = checkpoint.get('model', checkpoint)
    if isinstance(state, Mapping) and 'pixel_mean' in state and 'pixel_std' in state:
        mean, std = (
            tuple(torch.as_tensor(state[name]).flatten().tolist())
            for name in ('pixel_mean', 'pixel_std')
        )
        # detectron2 reads images as BGR unless told otherwise; the means of red are the largest.
        bgr = mean[0] < mean[-1]
        return InputStyle(mean, std, 'BGR' if bgr else 'RGB', '1x1' if max(std) == 1 else '3x3')
    beside = _config_beside(path)
    if beside is not None:
        return beside
    if style_name:
        return STYLES[style_name]
    return STYLES['caffe'] if re.search(r'caffe|msra', os.path.basename(path)) else None


def _meta(path: str, checkpoint: Mapping[str, Any]) -> Mapping:
    if is_safetensors(path):
        from safetensors import safe_open

        with safe_open(path, 'pt') as file:
            text = (file.metadata() or {}).get(META_KEY)
        return {META_KEY: json.loads(text)} if text else {}
    meta = checkpoint.get('meta')
    return meta if isinstance(meta, Mapping) else {}


def _config_beside(path: str) -> Optional[InputStyle]:
    """The style in the config that timm and Hugging Face download beside the weights, or None."""
    for name, keys in (
        ('config.json', ('pretrained_cfg', 'mean', 'std')),
        ('preprocessor_config.json', (None, 'image_mean', 'image_std')),
    ):
        try:
            with open(os.path.join(os.path.dirname(path), name)) as text:
                config = json.load(text)
            config = config[keys[0]] if keys[0] else config
            mean, std = (tuple(255 * value for value in config[key]) for key in keys[1:])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        return InputStyle(mean, std)
    return None


def style_of_model(model: nn.Module) -> Optional[InputStyle]:
    """Returns what a model gives to its backbone, read from its ``data_preprocessor`` and its
    strides, or None if they cannot be read."""
    preprocessor = getattr(model, 'data_preprocessor', None)
    mean, std = (getattr(preprocessor, name, None) for name in ('mean', 'std'))
    order = getattr(preprocessor, 'order', None)
    if order is None:  # mmengine's preprocessor; OpenMMLab's image readers give it BGR
        converts = ('_channel_conversion', 'channel_conversion')
        found = [getattr(preprocessor, n) for n in converts if hasattr(preprocessor, n)]
        if not found:
            return None
        order = 'RGB' if found[0] else 'BGR'
    if getattr(preprocessor, '_enable_normalize', True) is False:
        mean, std = torch.zeros(3), torch.ones(3)
    if not isinstance(mean, Tensor) or not isinstance(std, Tensor):
        return None
    if mean.numel() > 3:
        order = 'RGB'  # bands keep the order of the file
    return InputStyle(
        tuple(mean.flatten().tolist()),
        tuple(std.flatten().tolist()),
        order,
        stride_place(model) or '3x3',
    )


def stride_place(model: nn.Module) -> Optional[str]:
    """Which convolution of a ResNet's bottlenecks has the stride, '1x1' or '3x3'. None if there is
    no such bottleneck."""
    for module in model.modules():
        convs = [getattr(module, f'conv{i}', None) for i in (1, 2, 3)]
        strides = [getattr(conv, 'stride', None) for conv in convs]
        if all(isinstance(stride, tuple) for stride in strides):
            if max(strides[0]) > 1 and convs[0].kernel_size == (1, 1):
                return '1x1'
            if max(strides[1]) > 1:
                return '3x3'
    return None


def check_style(
    path: str, told: Optional[InputStyle], assumed: InputStyle, model: nn.Module
) -> str:
    """Compares what weights expect with what a model gives them.

    Args:
        path: the file of the weights.
        told: the style that the file tells, or None.
        assumed: the style to assume if the file tells none.
        model: the model to fill, with its ``data_preprocessor``.

    Returns:
        A line that says what the weights expect, and how that is known.

    Raises:
        SettingsError: if the model gives something else.
    """
    expected, given = told or assumed, style_of_model(model)
    count = len(expected.mean)
    if given is not None and len(given.mean) == 1 and expected.mean == expected.mean[:1] * count:
        # Both sides have one value for every channel.
        given = given._replace(mean=given.mean * count, std=given.std * count)
    known = 'the file says, or its layout' if told else 'assumed, because the file does not say'
    if given is None:
        return f'input of the weights: {expected} ({known}); not compared with data_preprocessor'
    if len(expected.mean) != len(given.mean):
        return (
            f'input of the weights: {expected} ({known}); not compared with data_preprocessor, '
            f'which normalises {len(given.mean)} channels'
        )
    if len(expected.mean) != 3:
        given = given._replace(order=expected.order)
    if not _alike(expected, given):
        raise SettingsError(
            f'{path} expects {expected} ({known}), and model.data_preprocessor gives {given}: set '
            f'{_remedy(expected, model)}'
            + (
                ''
                if told
                else '. If the weights do expect what the model gives, say so by '
                f'pretrained_input="dict(mean={_short(given.mean)}, std={_short(given.std)}, '
                f"order='{given.order}')\""
            )
        )
    place = stride_place(model)
    if place and place != expected.stride_on:
        raise SettingsError(
            f'{path} has the stride of its bottlenecks on the {expected.stride_on} convolution '
            f'({known}), the model on the {place}: set model.backbone.style='
            f"{'pytorch' if expected.stride_on == '3x3' else 'caffe'} of mmdet's ResNet"
        )
    return f'input of the weights: {expected} ({known})'


def _alike(a: InputStyle, b: InputStyle) -> bool:
    """Whether the order is the same and no mean or std differs by more than 1 level of 255."""
    return a.order == b.order and all(
        abs(x - y) < 1 for x, y in zip((*a.mean, *a.std), (*b.mean, *b.std))
    )


def _short(values: tuple[float, ...]) -> list[float]:
    return [round(value, 3) for value in values]


def _remedy(style: InputStyle, model: nn.Module) -> str:
    values = f'mean={_short(style.mean)}, std={_short(style.std)}'
    if hasattr(model.data_preprocessor, 'order'):
        return f'model.data_preprocessor to {values}, order={style.order!r}'
    return f'model.data_preprocessor to {values}, bgr_to_rgb={style.order == "RGB"}'
