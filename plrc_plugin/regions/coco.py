"""Ground-truth regions: instance masks or boxes of a COCO json (Section 4.5.1, Fig. 6)."""

import json
from collections import Counter
from posixpath import basename

import cv2
import numpy as np

from plrc_plugin.errors import SettingsError
from plrc_plugin.images.coco_json import read_coco
from plrc_plugin.images.coco_masks import box_mask, instance_mask, masks_of
from plrc_plugin.images.decoding import open_image
from plrc_plugin.regions.source import VOID, MissingRegions
from plrc_plugin.registry import REGIONS


@REGIONS.register_module()
class CocoRegions:
    """Takes each annotated instance as a region.

    Pixels of no instance are void. Pixels of several are void too, as a pixel has one region only.
    Crowds are no instances: they are left out. An image without instances is void throughout.

    Instances that lack what ``kind`` asks for are left out too. If EXIF turns a photograph, its
    annotations may be in the stored pixels or in the upright image.

    Args:
        ann_file (str): file in COCO's instance format, see
            :func:`~plrc_plugin.images.coco_json.read_coco`. Its ``file_name`` entries are paths
            relative to the images' ``data_root``, or the last parts of such paths if these are
            unique.
        kind (str): 'mask', or 'box' for all pixels of the instances' boxes. Defaults to 'mask'.

    Raises:
        SettingsError: if the json cannot be read, has no images or instances, names an image twice
            or annotates one that it lacks; and for an image, if it has another size than the json
            says, or a mask cannot be read.
    """

    def __init__(self, ann_file: str, kind: str = 'mask'):
        if kind not in ('mask', 'box'):
            raise SettingsError(f"CocoRegions: kind must be 'mask' or 'box', got {kind!r}")
        self.ann_file = ann_file
        self.kind = kind
        found = read_coco(ann_file, f'CocoRegions: ann_file={ann_file!r}')
        counted = {
            key: [o for o in objects if not o.crowd] for key, objects in found.objects.items()
        }
        shapes = {
            key: [shape for shape in (getattr(o, kind) for o in objects) if shape is not None]
            for key, objects in counted.items()
        }
        if not any(counted.values()):
            raise SettingsError(
                f'CocoRegions: ann_file={ann_file!r} has {len(found.images)} images and '
                'no instances: name a json of the images in data_root'
            )
        if not any(shapes.values()):
            other = dict(mask='box', box='mask')[kind]
            raise SettingsError(
                f'CocoRegions: kind={kind!r}, and the instances of ann_file={ann_file!r} have no '
                f'{dict(mask="masks", box="boxes")[kind]}: set kind={other!r}, or name a json that '
                'has them'
            )
        # All annotations are one array of bytes. Workers share its memory, while they would copy a
        # million objects.
        packed = [
            json.dumps([*image, shapes.get(key, [])]).encode()
            for key, image in found.images.items()
        ]
        self._bytes = np.frombuffer(b''.join(packed), np.uint8)
        self._ends = np.cumsum([len(text) for text in packed])
        self._places = by_name([image.name for image in found.images.values()])

    def __call__(self, record: dict) -> np.ndarray:
        n = self._places.get(record['name'], self._places.get(basename(record['name'])))
        if n is None:
            raise MissingRegions(
                f'{record["name"]!r} is not in {self.ann_file}: choose the json '
                f'of data_root={record["data_root"]!r}'
            )
        text = self._bytes[self._ends[n - 1] if n else 0 : self._ends[n]].tobytes()
        name, *size, shapes = json.loads(text)
        size = tuple(size) if None not in size else tuple(record['size'])
        if sorted(size) != sorted(record['size']):
            raise self._of_another_size(record, size)
        draw = dict(mask=instance_mask, box=box_mask)[self.kind]
        try:
            if size == tuple(record['size']):
                masks = [draw(shape, *size[::-1]) for shape in shapes]
            else:
                try:
                    file = open_image(record)
                    masks = masks_of(shapes, draw, size, file)
                except ValueError:
                    raise self._of_another_size(record, size) from None
            return one_region_each(masks, *record['size'][::-1])
        except (ValueError, TypeError, IndexError, KeyError, cv2.error) as error:
            if isinstance(error, SettingsError):
                raise
            raise SettingsError(
                f'CocoRegions: an instance of {name!r} in {self.ann_file} cannot '
                f'be read ({" ".join(str(error).split())}): mend it'
            ) from error

    def _of_another_size(self, record: dict, size: tuple[int, int]) -> SettingsError:
        return SettingsError(
            f'CocoRegions: {record["img_path"]} is {record["size"][0]} x '
            f'{record["size"][1]} pixels, {self.ann_file} says {size[0]} x '
            f'{size[1]}: resize the images and their annotations together'
        )


def by_name(names: list[str]) -> dict[str, int]:
    """Returns the place of each image by its name in a json and, if it is unique, by the name's
    last part."""
    last = Counter(map(basename, names))
    places = {basename(name): n for n, name in enumerate(names) if last[basename(name)] == 1}
    return {**places, **{name: n for n, name in enumerate(names)}}


def one_region_each(masks: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """Turns masks (H, W) bool into labels (H, W) int32: the number of the mask where there is
    exactly one, and void elsewhere."""
    labels = np.full((height, width), VOID, np.int32)
    covered = np.zeros((height, width), bool)
    for i, mask in enumerate(masks):
        labels[mask] = np.where(covered[mask], VOID, i)
        covered |= mask
    return labels
