"""Composes one multi-object scene, with its truth, from cut-out objects and backgrounds."""

from dataclasses import dataclass
from typing import Optional

import cv2
import numpy as np

from plrc_plugin.datasets.scenes.cutouts import CATEGORIES, Cutout, load_backdrops, load_cutouts
from plrc_plugin.errors import SettingsError

SPLITS = ('train', 'val')  # each its own random stream
MIN_VISIBLE = 0.35  # share of an object that must stay visible
MIN_AREA = 0.002  # share of the scene; smaller objects are not placed
MIN_SIDE = 64  # pixels; objects of smaller scenes would be blots
_TRIES = 12
_ASPECTS = ((1.0, 1.0), (1.0, 1.0), (1.0, 0.875), (0.875, 1.0))


@dataclass(frozen=True)
class Instance:
    """One object of a scene.

    Attributes:
        category: Index into :data:`CATEGORIES`.
        mask: (H, W) bool, the pixels where this object is seen (occluded ones are not).
    """

    category: int
    mask: np.ndarray

    @property
    def area(self) -> int:
        """Number of visible pixels."""
        return int(self.mask.sum())

    @property
    def bbox(self) -> list[int]:
        """COCO box [x, y, width, height] in pixels around the visible part."""
        return list(cv2.boundingRect(self.mask.astype(np.uint8)))


@dataclass(frozen=True)
class Scene:
    """A composed picture and what is known about it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        instances: The objects, back to front; their masks are disjoint.
        semantic: (H, W) uint8, 0 for the background and 1 + category index for objects.
    """

    image: np.ndarray
    instances: list[Instance]
    semantic: np.ndarray


def check_size(size: tuple[int, int]) -> None:
    """Raises SettingsError unless ``size`` is a (width, height) that scenes can have."""
    if (
        len(size) != 2
        or not all(isinstance(side, (int, np.integer)) for side in size)
        or min(size) < MIN_SIDE
        or max(size) > 4 * min(size)
    ):
        raise SettingsError(
            f'size must be whole (width, height) of at least {MIN_SIDE} pixels '
            f'each, one at most 4 times the other, got {tuple(size)}'
        )


@dataclass
class _Layer:
    """An object placed in the scene; (x, y) is where its (h, w, 4) patch starts."""

    category: int
    patch: np.ndarray
    x: int
    y: int
    shadow: float  # how much of the light behind it the object takes on

    def window(self) -> tuple[slice, slice]:
        height, width = self.patch.shape[:2]
        return slice(self.y, self.y + height), slice(self.x, self.x + width)


def compose_scene(
    seed: int, index: int, split: str = 'train', size: tuple[int, int] = (320, 240)
) -> Scene:
    """Composes scene ``index`` of a stream; the same arguments give the same scene.

    Objects are painted back to front. An object that would hide another one almost wholly, or
    be hidden itself, is not painted at all, so everything that is seen is labelled.

    Args:
        seed: Seed of the whole set, not negative.
        index: Number of the scene in its stream, not negative.
        split: 'train' or 'val', two separate random streams.
        size: Largest (width, height); some scenes are an eighth less wide or less high.

    Returns:
        The scene, with 2 to 6 objects.

    Raises:
        SettingsError: On a negative seed or index, an unknown split or an impossible size.
    """
    if seed < 0 or index < 0:
        raise SettingsError(f'seed and index must not be negative, got seed={seed}, index={index}')
    if split not in SPLITS:
        raise SettingsError(f'split must be one of {SPLITS}, got {split!r}')
    check_size(size)
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    aspect = _ASPECTS[rng.integers(len(_ASPECTS))]
    width, height = (round(side * share) for side, share in zip(size, aspect))

    horizon = rng.uniform(0.3, 0.6) if rng.random() < 0.65 else None
    canvas = _background(rng, width, height, horizon)
    layers, owner = _arrange(rng, width, height, horizon)
    for layer in layers:
        _paint(canvas, layer)

    instances = [Instance(layer.category, owner == i) for i, layer in enumerate(layers)]
    semantic = np.zeros((height, width), np.uint8)
    for instance in instances:
        semantic[instance.mask] = 1 + instance.category
    return Scene(_develop(rng, canvas), instances, semantic)


# ---- background ---------------------------------------------------------------------------


def _background(rng, width: int, height: int, horizon: Optional[float]) -> np.ndarray:
    """(H, W, 3) float32 in [0, 1]: one surface, or a wall or view above a floor."""
    backdrops = load_backdrops()
    kinds = ('texture', 'view') if horizon is not None or rng.random() < 0.3 else ('texture',)
    canvas = _crop(rng, _pick(rng, backdrops[_pick(rng, kinds)]), width, height)
    if horizon is None:
        return canvas
    if rng.random() < 0.5:  # out of focus
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.8, 3.0))
    top = int(horizon * height)
    canvas[top:] = _floor(rng, _pick(rng, backdrops['texture']), width, height - top)
    edge = slice(max(top - 2, 0), top + 2)
    canvas[edge] = cv2.blur(canvas[edge], (1, 3))
    return canvas


def _crop(rng, picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """A random part of a picture, of the scene's aspect, flipped or not, with its own light."""
    rows, columns = picture.shape[:2]
    largest = min(columns / width, rows / height)
    share = rng.uniform(0.55, 1.0) * largest
    w, h = int(width * share), int(height * share)
    x, y = rng.integers(columns - w + 1), rng.integers(rows - h + 1)
    part = picture[y : y + h, x : x + w]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    interpolation = cv2.INTER_AREA if share > 1 else cv2.INTER_LINEAR
    part = cv2.resize(np.ascontiguousarray(part), (width, height), interpolation=interpolation)
    return _graded(rng, part.astype(np.float32) / 255, hue=12.0, gain=(0.65, 1.1))


def _floor(rng, texture: np.ndarray, width: int, height: int) -> np.ndarray:
    """A texture seen in perspective, (height, width, 3) float32; its far edge is the top."""
    side = texture.shape[0]
    if rng.random() < 0.5:
        texture = np.ascontiguousarray(texture.transpose(1, 0, 2))
    inset = side * rng.uniform(0.2, 0.36)  # how much wider the strip seen far away is
    source = np.float32([[0, 0], [side, 0], [side - inset, side], [inset, side]])
    target = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    matrix = cv2.getPerspectiveTransform(source, target)
    small = cv2.GaussianBlur(texture, (0, 0), max(side / width / 3, 0.3))  # against aliasing
    floor = cv2.warpPerspective(
        small, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return _graded(rng, floor.astype(np.float32) / 255, hue=12.0, gain=(0.65, 1.1))


# ---- objects ------------------------------------------------------------------------------


def _arrange(rng, width: int, height: int, horizon: Optional[float]):
    """Chooses and places the objects.

    Returns:
        The layers, back to front, and the (H, W) int map of the layer seen at each pixel, -1
        for the background.
    """
    count = int(rng.integers(2, 7))
    categories = rng.permutation(len(CATEGORIES))[:count]
    if rng.random() < 0.35:
        categories[-1] = categories[0]  # two of a kind
    chosen = [(int(c), _pick(rng, load_cutouts()[CATEGORIES[c]])) for c in categories]
    nearness = np.where(
        [cutout.cut_below for _, cutout in chosen], 1.0, rng.uniform(0, 0.9, size=count)
    )
    layers: list[_Layer] = []
    full: list[int] = []  # the pixels that each layer would have without others in front of it
    owner = np.full((height, width), -1, np.int32)
    for i in np.argsort(nearness, kind='stable'):
        category, cutout = chosen[i]
        for attempt in range(_TRIES):
            layer = _place(
                rng, category, cutout, nearness[i], 0.93**attempt, width, height, horizon
            )
            solid = layer.patch[..., 3] > 0.5
            hidden = owner.copy()
            hidden[layer.window()][solid] = len(layers)
            visible = np.bincount(hidden.ravel() + 1, minlength=len(layers) + 2)[1:]
            if visible[-1] >= MIN_AREA * width * height and all(
                v >= MIN_VISIBLE * f and v >= MIN_AREA * width * height
                for v, f in zip(visible, full)
            ):
                layers.append(layer)
                full.append(int(visible[-1]))
                owner = hidden
                break
    return layers, owner


def _place(
    rng,
    category: int,
    cutout: Cutout,
    nearness: float,
    shrink: float,
    width: int,
    height: int,
    horizon: Optional[float],
) -> _Layer:
    """Warps a cut-out to a random place, size and pose, and gives it its light and shadow."""
    columns, rows = cutout.size
    tall = height * rng.uniform(*cutout.height_range) * shrink
    if horizon is not None and not cutout.cut_below:
        tall *= 0.6 + 0.5 * nearness  # farther is smaller
    else:
        tall *= rng.uniform(0.7, 1.0)
    scale = min(tall / rows, 0.7 * width / columns)
    upright = cutout.cut_below or horizon is not None
    angle = np.deg2rad(rng.uniform(-6, 6) if upright else rng.uniform(-30, 30))
    flip = -1.0 if rng.random() < 0.5 else 1.0
    stretch = rng.uniform(0.9, 1.1)

    # From the cut-out's pixels, its foot's middle as origin, to the scene's.
    shape = np.array([[flip * stretch * scale, 0], [0, scale]])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ shape
    corners = np.array([[-0.5, 0], [0.5, 0], [0.5, -1], [-0.5, -1]]) * (columns, rows) @ linear.T
    low, high = corners.min(axis=0), corners.max(axis=0)
    foot_x = rng.uniform(-0.12 * (high[0] - low[0]), width + 0.12 * (high[0] - low[0]))
    foot_x = np.clip(foot_x, -0.75 * low[0], width - 0.75 * high[0])  # at most an eighth outside
    if cutout.cut_below:
        lift = corners[:2, 1].min()  # the higher corner of the cut is below the border
        foot_y = height - lift + rng.uniform(0, 0.12) * tall
    elif horizon is not None:
        foot_y = height * (horizon + (1 - horizon) * (0.12 + 0.85 * nearness))
    else:
        foot_y = rng.uniform(-0.8 * low[1], height - 0.1 * low[1])
    offset = np.array([foot_x, foot_y])

    x0, y0 = np.maximum(np.floor(low + offset).astype(int) - 1, 0)
    x1, y1 = np.minimum(np.ceil(high + offset).astype(int) + 1, (width, height))
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
    level = cutout.levels[min(int(np.log2(max(1 / scale, 1))), len(cutout.levels) - 1)]
    ratio = np.array([columns / level.shape[1], rows / level.shape[0]])
    centre = np.array([level.shape[1] / 2 - 0.5, level.shape[0] - 0.5])
    matrix = np.zeros((2, 3))
    matrix[:, :2] = linear * ratio
    matrix[:, 2] = offset - (x0, y0) - 0.5 - matrix[:, :2] @ centre
    patch = cv2.warpAffine(level, matrix, (int(x1 - x0), int(y1 - y0)), flags=cv2.INTER_LINEAR)
    patch[..., :3] = _graded(
        rng, patch[..., :3], cutout.hue_range, gain=(0.75, 1.15), ceiling=patch[..., 3:]
    )
    return _Layer(category, patch, int(x0), int(y0), shadow=float(rng.uniform(0.2, 0.55)))


def _paint(canvas: np.ndarray, layer: _Layer) -> None:
    """Darkens the surroundings by the object's soft shadow, then lays the object over them."""
    height, width = layer.patch.shape[:2]
    reach = max(2, min(height, width) // 12)
    y0, x0 = max(layer.y - reach, 0), max(layer.x - reach, 0)
    area = canvas[y0 : layer.y + height + 2 * reach, x0 : layer.x + width + 2 * reach]
    shade = np.zeros(area.shape[:2], np.float32)
    top, left = layer.y - y0 + reach // 2, layer.x - x0 + reach // 2  # down and to the right
    part = layer.patch[: shade.shape[0] - top, : shade.shape[1] - left, 3]
    shade[top : top + part.shape[0], left : left + part.shape[1]] = part
    shade = cv2.GaussianBlur(shade, (0, 0), reach * 0.6)
    area *= (1 - layer.shadow * shade)[..., None]
    window = canvas[layer.window()]
    window *= 1 - layer.patch[..., 3:]
    window += layer.patch[..., :3]


# ---- light --------------------------------------------------------------------------------


def _graded(
    rng, colour: np.ndarray, hue: float, gain: tuple[float, float], ceiling=1.0
) -> np.ndarray:
    """Jitters hue (degrees), saturation and gain of (H, W, 3) float32 RGB, linear in colour."""
    angle = np.deg2rad(rng.uniform(-hue, hue))
    saturation = rng.uniform(0.75, 1.2)
    luma = np.array([0.299, 0.587, 0.114])
    # A turn about the grey axis (Rodrigues' formula), mixed with the luma for the saturation.
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    turn = np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) / 3
    mix = saturation * turn + (1 - saturation) * luma[None]
    return np.clip(cv2.transform(colour, mix * rng.uniform(*gain)), 0, ceiling)


def _develop(rng, canvas: np.ndarray) -> np.ndarray:
    """The camera: exposure, colour cast, noise; (H, W, 3) uint8."""
    cast = rng.uniform(0.85, 1.15) * rng.uniform(0.94, 1.06, size=3)
    noise = rng.standard_normal(canvas.shape[:2], dtype=np.float32) * rng.uniform(0.002, 0.02)
    picture = canvas * cast.astype(np.float32) + noise[..., None]
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _pick(rng, items):
    return items[int(rng.integers(len(items)))]
