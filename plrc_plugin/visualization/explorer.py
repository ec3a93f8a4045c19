"""Makes a page that shows the affinities of any point of any image (Section 4.4)."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Optional

import cv2
import matplotlib
import numpy as np
import torch
from mmengine.model import BaseModel
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from plrc_plugin.errors import SettingsError, check_positive_integers
from plrc_plugin.models.reading import last_map
from plrc_plugin.visualization.pages import base64_text, jpeg_address, write_page

FEATURE_BYTES = 16_000_000  # of all codes of a page: bounds its size and the work of a click
TOLERANCE = 0.01  # of the cosines shown
SIDES = 14, 10, 7  # cells of an image, the first whose codes are true enough
LEVELS = 101  # of the quantiles of cosines: one per percent


@torch.no_grad()
def cell_features(
    model: BaseModel, images: Iterable[np.ndarray], size: int, told: str = 'features'
) -> Tensor:
    """Computes last-stage features of images resized to ``size`` x ``size`` pixels.

    A bar on stderr with the name ``told`` shows the progress if that takes over three seconds.

    Returns:
        Tensor: (images, h, w, C), l2-normalised, so that cosines are dot products.

    Raises:
        SettingsError: if ``size`` leaves a single cell.
    """
    maps = []
    for image in tqdm(images, told, delay=3, mininterval=1, leave=False):
        pixels = torch.from_numpy(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA))
        features = last_map(model.backbone(model.data_preprocessor.normalise(pixels[None])))
        maps.append(F.normalize(features[0].permute(1, 2, 0), dim=-1))
    if maps[0].shape[0] * maps[0].shape[1] < 2:
        raise SettingsError(f'size={size} is too small: the network sees one cell of it; raise it')
    return torch.stack(maps)


def quantise(features: Tensor, dims: int) -> tuple[Tensor, float]:
    """Makes codes whose dot products, times scale², are close to those of unit vectors.

    The ``dims`` principal directions keep most of every dot product. Rotated at random, all codes
    have about the same range and one scale serves them all.

    Args:
        features (Tensor): (n, C), l2-normalised.
        dims (int): D, at most C.

    Returns:
        tuple[Tensor, float]: (n, D) int8, and the scale.
    """
    principal = torch.linalg.eigh(features.T @ features).eigenvectors[:, -dims:]
    noise = torch.randn(dims, dims, generator=torch.Generator().manual_seed(0))
    codes = features @ principal @ torch.linalg.qr(noise).Q
    scale = codes.abs().max().item() / 127
    return (codes / scale).round().to(torch.int8), scale


def largest_error(features: Tensor, codes: Tensor, scale: float, anchors: int = 1000) -> float:
    """Returns the largest error of cosines by codes, between about ``anchors`` of the n places and
    all of them."""
    step = -(-len(features) // anchors)
    exact = features[::step] @ features.T
    codes = codes.float()  # sums of products of int8 are exact in float32 up to 2^24
    return (exact - codes[::step] @ codes.T * scale**2).abs().max().item()


def cosine_levels(features: Tensor, anchors: int = 1000) -> list[float]:
    """Returns quantiles, one per percent, of the cosines between about ``anchors`` cells and all
    cells of the same image. A map of this network is drawn between them.

    Args:
        features (Tensor): (images, h, w, C), l2-normalised.
    """
    cells = features.flatten(1, 2)
    step = -(-cells.shape[0] * cells.shape[1] // anchors)
    cosines = cells[:, ::step] @ cells.transpose(1, 2)
    levels = np.quantile(cosines.numpy(), np.linspace(0, 1, LEVELS))
    return [round(float(min(level, 1)), 4) for level in levels]


def component_colours(features: Tensor) -> Tensor:
    """Shows the three main directions (principal components) of all cells as red, green and blue.

    Args:
        features (Tensor): (images, h, w, C).

    Returns:
        Tensor: (images, h, w, 3) uint8. Each component goes from its 2nd to its 98th percentile.
    """
    cells = features.flatten(0, 2)
    cells = cells - cells.mean(0)
    main = torch.linalg.eigh(cells.T @ cells).eigenvectors[:, -3:].flip(1)
    values = cells @ main
    values = values * values.pow(3).sum(0).sign()  # directions have no sign of their own
    low, high = (torch.from_numpy(np.quantile(values.numpy(), q, 0)) for q in (0.02, 0.98))
    shares = ((values - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    colours = torch.zeros(len(cells), 3, dtype=torch.uint8)
    colours[:, : shares.shape[1]] = (255 * shares).round().to(torch.uint8)
    return colours.view(*features.shape[:3], 3)


def encode(maps: Sequence[Tensor], labels: Sequence[str]) -> list[dict]:
    """Makes codes of the features of every network, which together fit into a page.

    Args:
        maps (Sequence[Tensor]): (images, h, w, C) of each network, l2-normalised.
        labels (Sequence[str]): names of the networks.

    Returns:
        list[dict]: for each network its codes and the numbers that the page needs to read them.
        ``error`` is the largest error of a cosine.

    Raises:
        SettingsError: if codes that are short enough to fit give cosines that are wrong by more
            than 0.01.
    """
    encoded = []
    for label, of_images in zip(labels, maps):
        rows, cols, channels = of_images.shape[1:]
        features = of_images.flatten(0, 2)
        dims = min(channels, max(1, FEATURE_BYTES // (len(maps) * len(features))))
        codes, scale = quantise(features, dims)
        error = largest_error(features, codes, scale)
        if error > TOLERANCE:
            raise SettingsError(
                f'the page would show cosines of {label} off by {error:.3f}, as only {dims} of '
                f'{channels} dimensions fit for {len(features)} cells: give fewer images '
                '(--count), fewer checkpoints or a smaller --size'
            )
        encoded.append(
            dict(
                label=label,
                dims=dims,
                scale=scale,
                rows=rows,
                cols=cols,
                error=error,
                levels=cosine_levels(of_images),
                components=base64_text(component_colours(of_images).numpy().tobytes()),
                codes=base64_text(codes.numpy().tobytes()),
            )
        )
    return encoded


def write_explorer(
    path: Path,
    images: Sequence[tuple[str, np.ndarray]],
    models: Sequence[BaseModel],
    labels: Sequence[str],
    size: Optional[int] = None,
) -> list[dict]:
    """Writes the page.

    Args:
        path (Path): the HTML file.
        images (Sequence[tuple[str, np.ndarray]]): names and (H, W, 3) uint8 RGB.
        models (Sequence[BaseModel]): with ``backbone``, ``data_preprocessor`` and ``stride``.
        labels (Sequence[str]): names of the models.
        size (int, optional): side to which images are resized for the network. Defaults to 14
            strides, 448 pixels for a ResNet-50, or as many of 10 and 7 as leave the cosines true.

    Returns:
        list[dict]: what :func:`encode` returns.

    Raises:
        SettingsError: if the file cannot be written, ``size`` is not positive, or so many cells
            would need codes so short that cosines are off by more than 0.01.
    """
    if size is not None:
        check_positive_integers('explorer', size=size)
    pixels = [image for _, image in images]
    for side in SIDES:
        maps = [
            cell_features(model, pixels, size or side * model.stride, f'features of {label}')
            for model, label in zip(models, labels)
        ]
        try:
            checkpoints = encode(maps, labels)
            break
        except SettingsError:
            if size or side == SIDES[-1]:
                raise
    colours = matplotlib.colormaps['viridis'](np.arange(256), bytes=True)[:, :3]
    write_page(
        path,
        'explorer.html',
        data=dict(
            error=max(c['error'] for c in checkpoints),
            colours=colours.tolist(),
            checkpoints=checkpoints,
            images=[
                dict(
                    name=name,
                    width=image.shape[1],
                    height=image.shape[0],
                    jpeg=jpeg_address(image, 320),
                )
                for name, image in images
            ],
        ),
    )
    return checkpoints
