"""Draws what a network will see: images, where their views lie in them, and the regions and
points."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import cv2
import numpy as np

from plrc_plugin.images.decoding import DecodingError
from plrc_plugin.images.rasters.scaling import visible
from plrc_plugin.views.opening import Opener

SIDE = 256  # pixels of a picture
_GAP = 8
_COLOURS = ((230, 57, 70), (29, 92, 210))  # of the query, of the key
_WHITE, _GREY = 255, 235


class Sheet(NamedTuple):
    """The pictures of one sample, (H, W, 3) uint8: the image with the frames of its views, and each
    view with the borders of its regions and its points."""

    name: str
    image: np.ndarray
    views: list[np.ndarray]


def draw_sample(sample: dict, opener: Opener, side: int = SIDE) -> Sheet:
    """Draws what a pipeline made of an image.

    Args:
        sample: the pipeline's result, with ``views`` and ``size``, and ``region_points`` if there
            are regions.
        opener: how the pipeline opens images.
        side: side of the pictures in pixels, which is the longer side for the picture of the image.
    """
    image = _overview(sample, opener, side)
    for view, colour in zip(sample['views'], _COLOURS):
        corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) @ view.affine[:, :2].T
        corners = (corners + view.affine[:, 2]) * (image.shape[1], image.shape[0])
        outline = corners.round().clip(1, np.array(image.shape[1::-1]) - 2).astype(np.int32)
        cv2.polylines(image, [outline], True, (_WHITE,) * 3, 4, cv2.LINE_AA)
        cv2.polylines(image, [outline], True, colour, 2, cv2.LINE_AA)
    drawn = sample.get('region_points') or [None] * len(sample['views'])
    views = [
        _view(view, points, colour, side)
        for view, points, colour in zip(sample['views'], drawn, _COLOURS)
    ]
    return Sheet(_name_of(sample), image, views)


def draw_sheet(sheets: Sequence[Sheet], side: int = SIDE) -> np.ndarray:
    """Draws a row of three pictures for each sample, on white, as one picture (H, W, 3) uint8."""
    caption = 22
    height = (side + caption + _GAP) * len(sheets) + _GAP
    page = np.full((height, (side + _GAP) * 3 + _GAP, 3), _WHITE, np.uint8)
    for row, sheet in enumerate(sheets):
        top = _GAP + row * (side + caption + _GAP)
        text = sheet.name if len(sheet.name) < 90 else f'...{sheet.name[-86:]}'
        cv2.putText(page, text.encode('ascii', 'replace').decode(), (_GAP, top + 14),
                    cv2.FONT_HERSHEY_SIMPLEX, 0.45, (60, 60, 60), 1, cv2.LINE_AA)  # fmt: skip
        for column, picture in enumerate([sheet.image, *sheet.views]):
            left = _GAP + column * (side + _GAP)
            high, wide = picture.shape[:2]
            page[top + caption : top + caption + high, left : left + wide] = picture
    return page


def _name_of(sample: dict) -> str:
    name = str(sample.get('name') or sample.get('img_path', ''))
    area = sample.get('area')
    return name if area is None else '{} [{}, {}, {} x {}]'.format(name, *area)


def _overview(sample: dict, opener: Opener, side: int) -> np.ndarray:
    """Draws the image at the size that fits, or grey if it is too large to be read whole."""
    width, height = sample['size']
    scale = side / max(width, height)
    wide, high = (max(4, round(length * scale)) for length in (width, height))
    try:
        image = visible(opener.whole(sample, (wide, high)))
    except DecodingError:
        return np.full((high, wide, 3), _GREY, np.uint8)
    shrinks = image.shape[0] > high and image.shape[1] > wide
    return cv2.resize(
        image, (wide, high), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )


def _view(view: Any, points: Optional[Any], colour: tuple, side: int) -> np.ndarray:
    pixels = cv2.resize(visible(view.pixels), (side, side), interpolation=cv2.INTER_LINEAR)
    if points is not None:
        if points.region_map is not None:
            _draw_borders(pixels, points.region_map.numpy())
        ids = points.regions.numpy()
        for region, (x, y) in zip(ids, points.points.numpy()):
            if region >= 0:
                place = round(float(x) * side), round(float(y) * side)
                cv2.circle(pixels, place, 3, (0, 0, 0), -1, cv2.LINE_AA)
                cv2.circle(pixels, place, 2, _colour_of(int(region)), -1, cv2.LINE_AA)
    cv2.rectangle(pixels, (0, 0), (side - 1, side - 1), colour, 3)
    return pixels


def _draw_borders(pixels: np.ndarray, region_map: np.ndarray) -> None:
    """Draws white lines between cells of different ids, and darkens cells without a region."""
    ids = cv2.resize(
        region_map.astype(np.float64), pixels.shape[1::-1], interpolation=cv2.INTER_NEAREST
    )
    pixels[ids < 0] = pixels[ids < 0] // 3
    border = np.zeros(ids.shape, bool)
    border[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    border[1:] |= ids[1:] != ids[:-1]
    pixels[border] = _WHITE


def _colour_of(region: int) -> tuple[int, int, int]:
    """Returns a bright colour for an id. Consecutive ids get very different hues."""
    hue = np.uint8(round(region * 0.618034 * 256) % 256)
    pixel = np.array([[[hue, 200, 255]]], np.uint8)
    return tuple(int(v) for v in cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB_FULL)[0, 0])  # type: ignore[return-value]
