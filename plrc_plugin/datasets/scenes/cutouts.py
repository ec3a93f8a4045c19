"""Objects and backgrounds taken from the photographs that scikit-image ships.

Only files inside scikit-image's wheel are read, nothing is downloaded, and only files that
scikit-image's own docstrings (``skimage.data``) give as CC0 or public domain are used:

=====================  ==========================  =============================================
file                   used for                    source and licence
=====================  ==========================  =============================================
astronaut.png          person, helmet, shuttle,    NASA Great Images, Eileen Collins;
                       backdrop                    public domain
camera.png             person, camera, skyline     Lav Varshney; CC0
chelsea.png            cat, fur, backdrop          Stefan van der Walt; CC0
coffee.png             cup, wooden table           Rachel Michetti (Pikolo Espresso Bar); CC0
horse.png              horse (outline only)        Andreas Preuss (marauder), openclipart; CC0
retina.jpg             retina                      Mikael Haeggstroem, Wikimedia Commons; CC0
hubble_deep_field.jpg  night sky                   NASA; public domain
brick.png              texture                     CC0Textures (Bricks25); CC0
grass.png              texture                     linolafett, DeviantArt (Grass-01); CC0
gravel.png             texture                     CC0Textures (Gravel04); CC0
=====================  ==========================  =============================================

Left out, since their terms are unstated, weaker or disputed: coins, ihc ("no known copyright
restrictions"), moon, motorcycle (no licence given) and rocket (scikit-image issue 5095).

The outlines are traced by hand in each photograph's pixels and smoothed: no random numbers, no
segmenter, so the cut-outs are the same on every run.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from plrc_plugin.errors import SettingsError

CATEGORIES = ('person', 'cat', 'cup', 'helmet', 'shuttle', 'camera', 'horse', 'retina')

_LONG_SIDE = 384  # size of the finest level of a cut-out, in pixels

# Outlines as (x, y) in the pixels of the file. Several polygons of one object are united.
_OUTLINES = {
    'astronaut': [
        [
            (230, 16),
            (255, 20),
            (277, 34),
            (292, 49),
            (300, 75),
            (300, 94),
            (293, 115),
            (277, 136),
            (267, 137),
            (260, 152),
            (257, 170),
            (277, 185),
            (293, 206),
            (302, 231),
            (323, 246),
            (340, 260),
            (349, 279),
            (359, 309),
            (364, 346),
            (342, 356),
            (323, 368),
            (305, 389),
            (291, 413),
            (281, 441),
            (277, 469),
            (279, 497),
            (283, 512),
            (283, 512),
            (62, 512),
            (62, 512),
            (52, 497),
            (35, 473),
            (23, 445),
            (21, 422),
            (22, 398),
            (24, 370),
            (26, 338),
            (36, 309),
            (45, 286),
            (54, 267),
            (70, 244),
            (94, 220),
            (115, 206),
            (117, 188),
            (123, 176),
            (134, 162),
            (150, 151),
            (169, 148),
            (183, 150),
            (180, 136),
            (174, 122),
            (164, 112),
            (156, 96),
            (154, 70),
            (162, 49),
            (176, 40),
            (192, 33),
            (206, 22),
            (218, 17),
        ]
    ],
    'helmet': [
        [
            (283, 488),
            (278, 469),
            (282, 441),
            (292, 413),
            (306, 389),
            (324, 368),
            (342, 356),
            (365, 348),
            (389, 345),
            (408, 344),
            (431, 349),
            (455, 363),
            (473, 382),
            (485, 401),
            (492, 422),
            (497, 448),
            (505, 457),
            (509, 475),
            (505, 490),
            (490, 502),
            (455, 509),
            (400, 511),
            (340, 511),
            (305, 507),
            (290, 500),
        ]
    ],
    'shuttle': [
        [
            (408, 0),
            (399, 20),
            (396, 40),
            (388, 43),
            (384, 61),
            (382, 89),
            (379, 108),
            (378, 178),
            (368, 195),
            (356, 210),
            (355, 222),
            (369, 229),
            (382, 230),
            (374, 255),
            (371, 270),
            (369, 280),
            (382, 282),
            (410, 282),
            (420, 274),
            (436, 278),
            (456, 270),
            (458, 258),
            (455, 234),
            (455, 216),
            (454, 202),
            (454, 61),
            (450, 47),
            (444, 39),
            (439, 47),
            (437, 50),
            (437, 28),
            (431, 12),
            (424, 0),
        ]
    ],
    'cameraman': [
        [
            (202, 64),
            (220, 66),
            (239, 75),
            (255, 89),
            (267, 103),
            (271, 117),
            (266, 131),
            (254, 136),
            (251, 142),
            (252, 158),
            (254, 168),
            (247, 176),
            (246, 185),
            (241, 191),
            (243, 204),
            (244, 212),
            (241, 225),
            (248, 246),
            (262, 234),
            (263, 216),
            (272, 206),
            (284, 206),
            (288, 214),
            (288, 281),
            (277, 291),
            (260, 307),
            (246, 312),
            (234, 309),
            (206, 295),
            (187, 323),
            (171, 345),
            (141, 382),
            (145, 403),
            (149, 427),
            (151, 512),
            (151, 512),
            (142, 512),
            (137, 501),
            (117, 469),
            (99, 449),
            (90, 512),
            (90, 512),
            (36, 512),
            (36, 512),
            (32, 460),
            (26, 400),
            (16, 340),
            (8, 300),
            (3, 270),
            (9, 245),
            (28, 220),
            (40, 197),
            (52, 173),
            (68, 148),
            (89, 131),
            (112, 124),
            (131, 124),
            (141, 115),
            (152, 107),
            (162, 106),
            (164, 96),
            (173, 84),
            (187, 70),
        ]
    ],
    'camera': [
        [
            (254, 142),
            (257, 139),
            (323, 139),
            (324, 155),
            (321, 157),
            (321, 181),
            (296, 186),
            (270, 184),
            (261, 177),
            (260, 151),
        ],
        [(275, 185), (299, 185), (299, 202), (275, 202)],
        [(289, 200), (297, 200), (297, 318), (289, 318)],
        [(281, 313), (306, 313), (311, 325), (298, 346), (287, 346), (279, 331)],
        [(308, 316), (323, 305), (337, 300), (338, 307), (325, 310), (311, 321)],
        [(288, 328), (298, 328), (298, 487), (288, 487)],
        [
            (279, 331),
            (289, 336),
            (274, 422),
            (267, 446),
            (251, 492),
            (247, 511),
            (231, 511),
            (237, 490),
            (253, 440),
            (262, 405),
        ],
        [(304, 330), (312, 328), (409, 511), (400, 511)],
    ],
    'cat': [
        [
            (34, 72),
            (38, 30),
            (50, 3),
            (72, 5),
            (100, 20),
            (130, 14),
            (170, 6),
            (220, 2),
            (270, 5),
            (305, 14),
            (325, 20),
            (350, 6),
            (375, 2),
            (397, 2),
            (388, 25),
            (372, 52),
            (358, 70),
            (362, 95),
            (366, 125),
            (362, 150),
            (355, 175),
            (338, 200),
            (322, 215),
            (314, 240),
            (305, 262),
            (285, 272),
            (258, 279),
            (235, 275),
            (200, 268),
            (165, 258),
            (135, 248),
            (105, 228),
            (85, 210),
            (60, 180),
            (48, 150),
            (36, 115),
        ]
    ],
    'cup': [
        [
            (178, 72),
            (150, 80),
            (125, 100),
            (100, 130),
            (85, 165),
            (78, 205),
            (80, 240),
            (90, 280),
            (110, 315),
            (140, 345),
            (180, 369),
            (230, 382),
            (280, 387),
            (330, 383),
            (380, 367),
            (420, 341),
            (450, 307),
            (470, 269),
            (477, 230),
            (473, 190),
            (459, 155),
            (439, 128),
            (417, 107),
            (422, 90),
            (424, 76),
            (413, 68),
            (402, 70),
            (395, 60),
            (375, 42),
            (345, 27),
            (310, 19),
            (280, 18),
            (245, 23),
            (215, 35),
            (190, 52),
        ]
    ],
}


@dataclass(frozen=True)
class Cutout:
    """One object, cut out of a photograph.

    Attributes:
        category: One of :data:`CATEGORIES`.
        levels: Pyramid of (h, w, 4) float32 RGBA in [0, 1], colour premultiplied by alpha, from
            fine to coarse, each half the size of the one before.
        height_range: Range of its height as a share of the scene's height.
        hue_range: Largest turn of the hue, in degrees, that keeps it plausible.
        cut_below: The photograph's frame cuts it, so it must rest on the scene's lower border.
    """

    category: str
    levels: tuple[np.ndarray, ...]
    height_range: tuple[float, float]
    hue_range: float = 8.0
    cut_below: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the finest level, in pixels."""
        height, width = self.levels[0].shape[:2]
        return width, height


def load_photo(name: str) -> np.ndarray:
    """Reads a photograph from the installed scikit-image package.

    Args:
        name: File name inside ``skimage/data``.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        SettingsError: If scikit-image does not ship this file, or it cannot be decoded.
    """
    import skimage

    path = Path(skimage.__file__).parent / 'data' / name
    photo = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if photo is None:
        raise SettingsError(
            f'scikit-image {skimage.__version__} has no readable {path}; the scenes need '
            'its shipped photographs: pip install --force-reinstall scikit-image'
        )
    return cv2.cvtColor(photo, cv2.COLOR_BGR2RGB)


def _outline_alpha(shape: tuple[int, int], polygons: list, smooth: bool) -> np.ndarray:
    """Anti-aliased (H, W) float32 coverage of the union of polygons."""
    scale = 4
    canvas = np.zeros((shape[0] * scale, shape[1] * scale), np.uint8)
    for polygon in polygons:
        points = np.asarray(polygon, np.float32)
        for _ in range(2 if smooth else 0):  # corner cutting; a doubled point stays nearly sharp
            following = np.roll(points, -1, axis=0)
            points = np.stack(
                [0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], axis=1
            ).reshape(-1, 2)
        cv2.fillPoly(canvas, [np.round(points * scale).astype(np.int32)], 255)
    alpha = cv2.resize(canvas, shape[::-1], interpolation=cv2.INTER_AREA)
    return alpha.astype(np.float32) / 255


def _pyramid(photo: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, ...]:
    """Crops to the object, shrinks to the working size and halves until it is tiny."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    alpha = cv2.GaussianBlur(cv2.erode(alpha, kernel), (0, 0), 1.0)  # away from the old background
    x, y, width, height = cv2.boundingRect((alpha > 0.02).astype(np.uint8))
    alpha = alpha[y : y + height, x : x + width, None]
    level = np.concatenate(
        [photo[y : y + height, x : x + width].astype(np.float32) / 255 * alpha, alpha], axis=2
    )
    shrink = min(1.0, _LONG_SIDE / max(width, height))
    level = cv2.resize(level, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    levels = [level]
    while min(level.shape[:2]) >= 32:
        level = cv2.resize(level, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        levels.append(level)
    return tuple(levels)


def _toned(grey: np.ndarray, dark: tuple[int, ...], light: tuple[int, ...]) -> np.ndarray:
    """Colours a grey photograph: black becomes ``dark``, white becomes ``light``."""
    share = grey[..., :1].astype(np.float32) / 255
    return (np.float32(dark) * (1 - share) + np.float32(light) * share).astype(np.uint8)


def _traced(
    outline: str, photo: np.ndarray, category: str, height_range: tuple[float, float], **kwargs
) -> Cutout:
    alpha = _outline_alpha(photo.shape[:2], _OUTLINES[outline], smooth=outline != 'camera')
    return Cutout(category, _pyramid(photo, alpha), height_range, **kwargs)


def _horses() -> list[Cutout]:
    """The horse is a silhouette: give it a coat of the cat's fur and a rounded shading."""
    mask = (load_photo('horse.png')[..., 0] < 128).astype(np.uint8)
    mask = cv2.copyMakeBorder(mask, 4, 4, 4, 4, cv2.BORDER_CONSTANT)
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    depth = cv2.GaussianBlur(np.sqrt(np.minimum(depth, 40) / 40), (0, 0), 4)
    # Light from above: the surface's slope downwards darkens, the slope upwards lightens.
    light = 0.55 + 0.45 * depth + 4.5 * cv2.Sobel(depth, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    fur = cv2.resize(
        load_photo('chelsea.png')[0:75, 95:290], mask.shape[::-1], interpolation=cv2.INTER_CUBIC
    )
    grain = np.sqrt(fur.mean(axis=2, keepdims=True) / fur.mean())
    coats = ((139, 84, 46), (176, 168, 158), (62, 50, 46))  # bay, grey, black
    cutouts = []
    for coat in coats:
        photo = np.float32(coat) * grain * np.clip(light, 0.25, 1.5)[..., None]
        photo = np.clip(photo, 0, 255).astype(np.uint8)
        cutouts.append(Cutout('horse', _pyramid(photo, mask.astype(np.float32)), (0.35, 0.7)))
    return cutouts


def _retina() -> Cutout:
    photo = cv2.resize(load_photo('retina.jpg'), None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)
    mask = (photo.max(axis=2) > 40).astype(np.uint8)
    notch = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (61, 61))
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, notch)  # without the camera's notch
    return Cutout('retina', _pyramid(photo, mask.astype(np.float32)), (0.15, 0.42), hue_range=12.0)


@cache
def load_cutouts() -> dict[str, tuple[Cutout, ...]]:
    """Returns all cut-outs by category. They are made on the first call and kept in memory.

    Returns:
        For each of :data:`CATEGORIES` its cut-outs.
    """
    astronaut, coffee = load_photo('astronaut.png'), load_photo('coffee.png')
    cameraman = load_photo('camera.png')
    cutouts = [
        _traced('astronaut', astronaut, 'person', (0.5, 0.95), cut_below=True),
        _traced(
            'cameraman',
            _toned(cameraman, (16, 20, 34), (255, 226, 200)),
            'person',
            (0.5, 0.95),
            cut_below=True,
        ),
        _traced(
            'cameraman',
            _toned(cameraman, (48, 20, 14), (240, 205, 170)),
            'person',
            (0.5, 0.95),
            cut_below=True,
        ),
        _traced('cat', load_photo('chelsea.png'), 'cat', (0.25, 0.55), hue_range=15.0),
        _traced('cup', coffee, 'cup', (0.25, 0.5), hue_range=180.0),
        _traced('helmet', astronaut, 'helmet', (0.2, 0.45), hue_range=30.0),
        _traced('shuttle', astronaut, 'shuttle', (0.4, 0.8), hue_range=20.0),
        _traced('camera', cameraman, 'camera', (0.45, 0.85)),
        *_horses(),
        _retina(),
    ]
    return {name: tuple(c for c in cutouts if c.category == name) for name in CATEGORIES}


@cache
def load_backdrops() -> dict[str, tuple[np.ndarray, ...]]:
    """Returns the background pictures. They are made on the first call and kept in memory.

    Returns:
        'texture': (512, 512, 3) surfaces that may be walls or floors, 'view': photographs, or
        blurred parts of them, that show none of the objects recognisably. All uint8 RGB.
    """
    brick, grass, gravel = (load_photo(f'{name}.png') for name in ('brick', 'grass', 'gravel'))
    coffee, astronaut = load_photo('coffee.png'), load_photo('astronaut.png')
    wood = cv2.resize(coffee[250:400, 470:600], (512, 512), interpolation=cv2.INTER_CUBIC)
    textures = (
        _toned(brick, (60, 20, 10), (255, 190, 160)),
        _toned(brick, (40, 40, 44), (240, 236, 230)),
        _toned(grass, (10, 30, 5), (190, 220, 110)),
        _toned(grass, (40, 32, 8), (230, 210, 130)),
        _toned(gravel, (30, 28, 28), (235, 230, 225)),
        _toned(gravel, (50, 34, 20), (240, 215, 180)),
        wood,
    )
    skyline = _toned(load_photo('camera.png')[:300, 340:512], (24, 30, 40), (215, 232, 255))
    views = (
        cv2.resize(skyline, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC),
        cv2.resize(astronaut[:140, 75:150], None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC),
        load_photo('hubble_deep_field.jpg'),
        cv2.GaussianBlur(astronaut, (0, 0), 24),
        cv2.GaussianBlur(coffee, (0, 0), 24),
        cv2.GaussianBlur(load_photo('chelsea.png'), (0, 0), 18),
    )
    return {'texture': textures, 'view': views}
