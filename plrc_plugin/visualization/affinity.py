"""Point affinities as pictures (Section 4.4, Fig. 3)."""
from typing import List, Sequence, Tuple

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor, nn
from torch.nn import functional as F

from plrc_plugin.errors import SettingsError
from plrc_plugin.models.momentum_encoders import last_map
from plrc_plugin.views import read_points

Point = Tuple[float, float]


@torch.no_grad()
def affinity_map(model: nn.Module, image: np.ndarray, point: Point, size: int = 896,
                 resolution: int = 56) -> Tensor:
    """Cosine similarity of a point's feature to those of all places of its image.

    Args:
        model (nn.Module): with ``backbone`` and ``data_preprocessor``.
        image (np.ndarray): (H, W, 3) uint8 RGB.
        point (tuple[float, float]): (x, y) in [0, 1].
        size (int): side to which the image is resized, in pixels. Defaults to 896.
        resolution (int): to which the last stage's map is interpolated. Defaults to 56.

    Returns:
        Tensor: (resolution, resolution) in [-1, 1].

    Raises:
        SettingsError: if the point lies outside the image.
    """
    if not all(0 <= coordinate <= 1 for coordinate in point):
        raise SettingsError(f'point {point} lies outside the image: x and y go from 0 to 1')
    model.eval()
    pixels = torch.from_numpy(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA))
    features = last_map(model.backbone(model.data_preprocessor.normalise(pixels.unsqueeze(0))))
    anchor = F.normalize(read_points(features, torch.tensor([[point]]))[0, 0], dim=0)
    features = F.interpolate(features, (resolution, resolution), mode='bilinear',
                             align_corners=False)
    return torch.einsum('d,dhw->hw', anchor, F.normalize(features[0], dim=0))


def affinity_gallery(images: Sequence[np.ndarray], points: Sequence[Point],
                     models: Sequence[nn.Module], labels: Sequence[str], size: int = 896,
                     per_row: int = 2) -> Figure:
    """Groups of an image with its point circled and one map per model, bright = similar."""
    columns = 1 + len(models)
    rows = -(-len(images) // per_row)
    figure = Figure(figsize=(2 * columns * per_row, 1.5 * rows + 0.3), layout='constrained')
    axes = np.atleast_2d(figure.subplots(rows, columns * per_row, squeeze=False))
    for a in axes.flat:
        a.set_axis_off()
    for i, (image, point) in enumerate(zip(images, points)):
        group = axes[i // per_row, (i % per_row) * columns:][:columns]
        height, width = image.shape[:2]
        group[0].imshow(image)
        group[0].add_patch(Circle((point[0] * width, point[1] * height), 0.04 * max(image.shape),
                                  fill=False, color='red', linewidth=2))
        for a, model in zip(group[1:], models):
            a.imshow(affinity_map(model, image, point, size), extent=(0, width, height, 0),
                     interpolation='bilinear')
        if i < per_row:
            for a, label in zip(group, ['image', *labels]):
                a.set_title(label, fontsize=10)
    return figure


def object_centres(annotations: dict, file_names: Sequence[str]) -> List[Point]:
    """A point in each image's largest object: of its COCO box's centre, the fraction (x, y)."""
    points = []
    for name in file_names:
        record = next((r for r in annotations['images'] if r['file_name'] == name), None)
        objects = [a for a in annotations['annotations'] if record and a['image_id'] == record['id']]
        if not objects:
            points.append((0.5, 0.5))
            continue
        x, y, w, h = max(objects, key=lambda a: a['area'])['bbox']
        points.append(((x + w / 2) / record['width'], (y + h / 2) / record['height']))
    return points
