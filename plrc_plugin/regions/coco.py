"""Ground-truth regions: instance masks or boxes of a COCO json (Section 4.5.1, Fig. 6)."""

import json
from collections import Counter, defaultdict

import cv2
import numpy as np

from plrc_plugin.errors import SettingsError
from plrc_plugin.images.coco_masks import box_mask, instance_mask
from plrc_plugin.regions.source import VOID, MissingRegions
from plrc_plugin.registry import REGIONS


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
            images = {
                image['id']: (image['file_name'], image['width'], image['height'])
                for image in content['images']
            }
            repeated = {
                name: [
                    value
                    for value, times in Counter(image[name] for image in content['images']).items()
                    if times > 1
                ]
                for name in ('id', 'file_name')
            }
            shapes = defaultdict(list)
            for annotation in content['annotations']:
                if not annotation.get('iscrowd'):
                    shapes[annotation['image_id']].append(annotation[field])
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise SettingsError(
                f'CocoRegions: ann_file={ann_file!r} cannot be read ({error}): '
                "name a json in COCO's instance format"
            ) from error
        except KeyError as error:
            raise SettingsError(
                f'CocoRegions: ann_file={ann_file!r} lacks {error}: name a json in '
                "COCO's instance format"
            ) from error
        for name, values in repeated.items():
            if values:
                raise SettingsError(
                    f'CocoRegions: ann_file={ann_file!r} has several images of '
                    f'{name} {values[0]!r}: give each image one entry'
                )
        unknown = [i for i in shapes if i not in images]
        if unknown:
            raise SettingsError(
                f'CocoRegions: ann_file={ann_file!r} has annotations of image_id '
                f'{unknown[0]!r}, but no such image: add it or remove them'
            )
        if not shapes:
            raise SettingsError(
                f'CocoRegions: ann_file={ann_file!r} has {len(images)} images and '
                'no instances: name a json of the images in data_root'
            )
        # One array of bytes: workers share its memory, where they would copy a million objects.
        packed = [json.dumps([*images[i], shapes[i]]).encode() for i in images]
        self._bytes = np.frombuffer(b''.join(packed), np.uint8)
        self._ends = np.cumsum([len(text) for text in packed])
        self._places = {name: n for n, (name, _, _) in enumerate(images.values())}

    def __call__(self, record: dict) -> np.ndarray:
        if record['name'] not in self._places:
            raise MissingRegions(
                f'{record["name"]!r} is not in {self.ann_file}: choose the json '
                f'of data_root={record["data_root"]!r}'
            )
        n = self._places[record['name']]
        text = self._bytes[self._ends[n - 1] if n else 0 : self._ends[n]].tobytes()
        name, width, height, shapes = json.loads(text)
        if (width, height) != tuple(record['size']):
            raise SettingsError(
                f'CocoRegions: {record["img_path"]} is {record["size"][0]} x '
                f'{record["size"][1]} pixels, {self.ann_file} says {width} x '
                f'{height}: resize the images and their annotations together'
            )
        draw = dict(mask=instance_mask, box=box_mask)[self.kind]
        try:
            return one_region_each([draw(shape, height, width) for shape in shapes], height, width)
        except (ValueError, TypeError, IndexError, KeyError, cv2.error) as error:
            raise SettingsError(
                f'CocoRegions: an instance of {name!r} in {self.ann_file} cannot '
                f'be read ({" ".join(str(error).split())}): mend it'
            ) from error


def one_region_each(masks: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """Masks (H, W) bool to labels (H, W) int32: the mask's number where there is exactly one."""
    labels = np.full((height, width), VOID, np.int32)
    covered = np.zeros((height, width), bool)
    for i, mask in enumerate(masks):
        labels[mask] = np.where(covered[mask], VOID, i)
        covered |= mask
    return labels
