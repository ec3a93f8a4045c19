"""Ground-truth regions: instance masks or boxes of a COCO json (Section 4.5.1, Fig. 6)."""
import json
from collections import Counter, defaultdict
from typing import List

import cv2
import numpy as np

from plrc_plugin.errors import SettingsError
from plrc_plugin.registry import REGIONS

from .labels import MissingRegions
from .sampling import VOID

_FINE = 5  # OpenCV fills a polygon's outline too: a thinner one on pixels this many times finer


@REGIONS.register_module()
class CocoRegions:
    """Each annotated instance is a region.

    Void are the pixels of no instance, and, as a pixel has one region, those of several. Crowds are
    no instances: they are left out. An image without instances is void throughout.

    Args:
        ann_file (str): json in COCO's instance format. Its ``file_name`` are paths relative to the
            images' ``data_root``.
        kind (str): 'mask', or 'box' for all pixels of the instances' boxes. Defaults to 'mask'.

    Raises:
        SettingsError: if the json cannot be read, has no images or instances, names an image twice
            or annotates one that it lacks; at an image, if it is of another size than the json
            says, or a mask cannot be read.
    """

    def __init__(self, ann_file: str, kind: str = 'mask'):
        if kind not in ('mask', 'box'):
            raise SettingsError(f"CocoRegions: kind must be 'mask' or 'box', got {kind!r}")
        self.ann_file = ann_file
        self.kind = kind
        field = dict(mask='segmentation', box='bbox')[kind]
        try:
            with open(ann_file, encoding='utf-8') as file:
                content = json.load(file)
            images = {image['id']: (image['file_name'], image['width'], image['height'])
                      for image in content['images']}
            repeated = {name: [value for value, times in Counter(
                image[name] for image in content['images']).items() if times > 1]
                for name in ('id', 'file_name')}
            shapes = defaultdict(list)
            for annotation in content['annotations']:
                if not annotation.get('iscrowd'):
                    shapes[annotation['image_id']].append(annotation[field])
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise SettingsError(f'CocoRegions: ann_file={ann_file!r} cannot be read ({error}): '
                                "name a json in COCO's instance format") from error
        except KeyError as error:
            raise SettingsError(f'CocoRegions: ann_file={ann_file!r} lacks {error}: name a json in '
                                "COCO's instance format") from error
        for name, values in repeated.items():
            if values:
                raise SettingsError(f'CocoRegions: ann_file={ann_file!r} has several images of '
                                    f'{name} {values[0]!r}: give each image one entry')
        unknown = [i for i in shapes if i not in images]
        if unknown:
            raise SettingsError(f'CocoRegions: ann_file={ann_file!r} has annotations of image_id '
                                f'{unknown[0]!r}, but no such image: add it or remove them')
        if not shapes:
            raise SettingsError(f'CocoRegions: ann_file={ann_file!r} has {len(images)} images and '
                                'no instances: name a json of the images in data_root')
        # One array of bytes: workers share its memory, where they would copy a million objects.
        packed = [json.dumps([*images[i], shapes[i]]).encode() for i in images]
        self._bytes = np.frombuffer(b''.join(packed), np.uint8)
        self._ends = np.cumsum([len(text) for text in packed])
        self._places = {name: n for n, (name, _, _) in enumerate(images.values())}

    def __call__(self, record: dict) -> np.ndarray:
        if record['name'] not in self._places:
            raise MissingRegions(f'{record["name"]!r} is not in {self.ann_file}: choose the json '
                                 f'of data_root={record["data_root"]!r}')
        n = self._places[record['name']]
        text = self._bytes[self._ends[n - 1] if n else 0:self._ends[n]].tobytes()
        name, width, height, shapes = json.loads(text)
        if (width, height) != tuple(record['size']):
            raise SettingsError(f'CocoRegions: {record["img_path"]} is {record["size"][0]} x '
                                f'{record["size"][1]} pixels, {self.ann_file} says {width} x '
                                f'{height}: resize the images and their annotations together')
        draw = dict(mask=instance_mask, box=box_mask)[self.kind]
        try:
            return one_region_each([draw(shape, height, width) for shape in shapes],
                                   height, width)
        except (ValueError, TypeError, IndexError, KeyError, cv2.error) as error:
            raise SettingsError(f'CocoRegions: an instance of {name!r} in {self.ann_file} cannot '
                                f'be read ({" ".join(str(error).split())}): mend it') from error


def one_region_each(masks: List[np.ndarray], height: int, width: int) -> np.ndarray:
    """Masks (H, W) bool to labels (H, W) int32: the mask's number where there is exactly one."""
    labels = np.full((height, width), VOID, np.int32)
    covered = np.zeros((height, width), bool)
    for i, mask in enumerate(masks):
        labels[mask] = np.where(covered[mask], VOID, i)
        covered |= mask
    return labels


def box_mask(box: list, height: int, width: int) -> np.ndarray:
    """(H, W) bool: the pixels whose centres lie in a box (left, top, width, height)."""
    left, top, w, h = _finite(box)
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    return ((y >= top) & (y < top + h))[:, None] & ((x >= left) & (x < left + w))


def instance_mask(shape, height: int, width: int) -> np.ndarray:
    """(H, W) bool: a list of polygons, or run lengths, compressed (text) or not (numbers)."""
    if isinstance(shape, list):
        mask = np.zeros((height, width), bool)
        for polygon in shape:
            fill_polygon(mask, _finite(polygon).reshape(-1, 2))
        return mask
    if list(shape['size']) != [height, width]:
        raise ValueError(f'its run lengths are of size {shape["size"]}, not {[height, width]}')
    counts = shape['counts']
    counts = _decompressed(counts) if isinstance(counts, str) else counts
    if min(counts, default=0) < 0 or sum(counts) != height * width:
        raise ValueError(f'its run lengths do not add up to {height * width} pixels')
    values = np.arange(len(counts)) % 2 == 1
    return values.repeat(counts).reshape(width, height).T


def _finite(numbers: list) -> np.ndarray:
    numbers = np.array(numbers, float)
    if not np.isfinite(numbers).all():
        raise ValueError('a coordinate is not finite')
    return numbers


def fill_polygon(mask: np.ndarray, corners: np.ndarray) -> None:
    """Sets the pixels of a mask (H, W) whose centres lie in a polygon, (K, 2) corners (x, y)."""
    first = np.floor(corners.min(0)).clip(0).astype(int)
    last = np.minimum(np.ceil(corners.max(0)).astype(int), mask.shape[::-1])
    if (last <= first).any():
        return
    fine = np.zeros((last - first)[::-1] * _FINE, np.uint8)
    # A pixel's centre is at .5 in COCO's coordinates, at 0 in OpenCV's.
    cv2.fillPoly(fine, [np.round((corners - first) * _FINE - 0.5).astype(np.int32)], 1)
    centres = fine[_FINE // 2::_FINE, _FINE // 2::_FINE].astype(bool)
    mask[first[1]:last[1], first[0]:last[0]] |= centres


def _decompressed(text: str) -> List[int]:
    """The runs of COCO's compressed form. pycocotools would read beyond malformed text unnoticed.

    A character holds five bits, the lowest first, and whether more follow. From the fourth on, a
    number is the difference to the run two before.
    """
    counts, value, bits = [], 0, 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise ValueError(f'its run lengths have the character {character!r}')
        value |= (code & 31) << bits
        bits += 5
        if not code & 32:
            value -= (code & 16) << (bits - 4)  # the sign
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value, bits = 0, 0
    if bits:
        raise ValueError('its run lengths end within a number')
    return counts
