"""Draws point affinities as pictures (Section 4.4, Fig. 3)."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from mmengine.model import BaseModel
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from plrc_plugin.errors import SettingsError
from plrc_plugin.images.rasters.scaling import visible
from plrc_plugin.models.reading import last_map, read_points
from plrc_plugin.views.augmentation import resize

Point = tuple[float, float]
MIN_SIDE = 32  # pixels of an image


def check_point(image: np.ndarray, point: Point) -> None:
    """Raises SettingsError if the point lies outside or the image has a side below 32 pixels."""
    if not all(0 <= coordinate <= 1 for coordinate in point):
        raise SettingsError(f'point {point} lies outside the image: x and y go from 0 to 1')
    if min(image.shape[:2]) < MIN_SIDE:
        raise SettingsError(
            f'an image of {image.shape[1]} x {image.shape[0]} pixels is too small: '
            f'each side needs {MIN_SIDE}'
        )


@torch.no_grad()
def affinity_map(
    model: BaseModel, image: np.ndarray, point: Point, size: int = 896, resolution: int = 56
) -> Tensor:
    """Computes the cosine of a point's feature with the features of all places of its image.

    Args:
        model (BaseModel): in evaluation mode, with ``backbone`` and ``data_preprocessor``.
        image (np.ndarray): (H, W, 3) uint8 RGB, or (H, W, C) float32 in [0, 255].
        point (tuple[float, float]): (x, y) in [0, 1].
        size (int): side to which the image is resized, in pixels. Defaults to 896.
        resolution (int): side to which the cosines at the cells of the last map are enlarged.
            Defaults to 56.

    Returns:
        Tensor: (resolution, resolution) in [-1, 1], on the CPU.

    Raises:
        SettingsError: if the point lies outside the image, the image has a side below 32 pixels, or
            ``size`` leaves the network a single cell.
    """
    check_point(image, point)
    pixels = torch.from_numpy(resize(image, size))
    device = next(model.backbone.parameters()).device
    features = (
        last_map(model.backbone(model.data_preprocessor.normalise(pixels.unsqueeze(0).to(device))))
        .float()
        .cpu()
    )
    if features[0, 0].numel() < 2:
        raise SettingsError(f'size={size} is too small: the network sees one cell of it; raise it')
    anchor = F.normalize(read_points(features, torch.tensor([[point]]))[0, 0], dim=0)
    # Interpolating the features first would make them shorter between cells, which shows as a
    # lattice.
    cosines = torch.einsum('d,dhw->hw', anchor, F.normalize(features[0], dim=0))
    shape = (resolution, resolution)
    return F.interpolate(cosines[None, None], shape, mode='bilinear', align_corners=False)[0, 0]


def affinity_gallery(
    images: Sequence[np.ndarray],
    points: Sequence[Point],
    models: Sequence[BaseModel],
    labels: Sequence[str],
    size: int = 896,
    per_row: int = 2,
    progress: bool = False,
) -> Figure:
    """Draws for each image the image with its point circled, and one map per model, bright =
    similar.

    ``progress`` shows a bar on stderr if that takes over three seconds.
    """
    columns = 1 + len(models)
    rows = -(-len(images) // per_row)
    figure = Figure(figsize=(2 * columns * per_row, 1.5 * rows + 0.3), layout='constrained')
    axes = np.atleast_2d(figure.subplots(rows, columns * per_row, squeeze=False))
    for a in axes.flat:
        a.set_axis_off()
    pairs = zip(images, points)
    bar = partial(tqdm, total=len(images), delay=3, mininterval=1, leave=False)
    for i, (image, point) in enumerate(bar(pairs, 'maps', disable=not progress)):
        group = axes[i // per_row, (i % per_row) * columns :][:columns]
        height, width = image.shape[:2]
        group[0].imshow(visible(image))
        group[0].add_patch(
            Circle(
                (point[0] * width, point[1] * height),
                0.04 * max(image.shape),
                fill=False,
                color='red',
                linewidth=2,
            )
        )
        for a, model in zip(group[1:], models):
            a.imshow(
                affinity_map(model, image, point, size).numpy(),
                extent=(0, width, height, 0),
                interpolation='bilinear',
            )
        if i < per_row:
            for a, label in zip(group, ['image', *labels]):
                a.set_title(label, fontsize=10)
    return figure


def object_centre(instances: np.ndarray) -> Point:
    """Returns (x, y) in [0, 1] of the pixel of the largest object nearest to its centroid. The
    objects are (H, W), where 0 and below is none. Returns the image's middle if there is no
    object."""
    counts = np.bincount(instances[instances > 0], minlength=2)
    if not counts.any():
        return 0.5, 0.5
    pixels = np.argwhere(instances == counts.argmax())
    y, x = pixels[np.square(pixels - pixels.mean(0)).sum(1).argmin()]
    height, width = instances.shape
    return float((x + 0.5) / width), float((y + 0.5) / height)
