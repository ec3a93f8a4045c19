"""Reads COCO's json as annotation tools write it: images, objects and categories."""

import json
from collections import Counter
from os import PathLike
from typing import Any, NamedTuple, Optional, Union

from plrc_plugin.errors import SettingsError


class CocoImage(NamedTuple):
    """An image of the json: its file, and its size in pixels, or None if the json does not say."""

    name: str
    width: Optional[int]
    height: Optional[int]


class CocoObject(NamedTuple):
    """An object of an image.

    ``mask`` is a list of polygons or run lengths, or None. ``box`` is (left, top, width, height),
    or None. ``category`` is the id of its category.
    """

    category: Any
    mask: Union[list, dict, None]
    box: Optional[list]
    crowd: bool


class CocoFile(NamedTuple):
    """The content of a json: images and their objects by image id, names of categories by their
    id."""

    images: dict[Any, CocoImage]
    objects: dict[Any, list[CocoObject]]
    categories: dict[Any, str]


def read_coco(path: Union[str, PathLike], setting: str) -> CocoFile:
    """Reads a json of COCO, LVIS, Objects365, CVAT, Label Studio or Roboflow.

    Ids may be numbers or text of digits. The name of an image is its ``file_name`` or, as in LVIS,
    the end of its ``coco_url``. A backslash in a name counts as a slash.

    Args:
        path: the json.
        setting: the setting that names it, for errors, such as "CocoRegions: ann_file='x.json'".

    Raises:
        SettingsError: if it cannot be read or lacks something, names an image twice, or annotates
            one that it lacks.
    """
    try:
        with open(path, encoding='utf-8-sig') as file:
            content = json.load(file)
        entries = [(_key(image['id']), _image(image)) for image in content['images']]
        objects: dict[Any, list[CocoObject]] = {}
        for annotation in content['annotations']:
            objects.setdefault(_key(annotation['image_id']), []).append(_object(annotation))
        categories = {
            _key(category['id']): str(category['name'])
            for category in content.get('categories') or []
        }
    except KeyError as error:
        raise SettingsError(
            f"{setting} lacks {error}: name a json in COCO's instance format"
        ) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"{setting} cannot be read ({error}): name a json in COCO's instance format"
        ) from error
    for what, values in (
        ('id', [key for key, _ in entries]),
        ('file_name', [image.name for _, image in entries]),
    ):
        repeated = [value for value, times in Counter(values).items() if times > 1]
        if repeated:
            raise SettingsError(
                f'{setting} has several images of {what} {repeated[0]!r}: give each image one entry'
            )
    images = dict(entries)
    unknown = [key for key in objects if key not in images]
    if unknown:
        raise SettingsError(
            f'{setting} has annotations of image_id {unknown[0]!r}, but no such image: add it or '
            'remove them'
        )
    return CocoFile(images, objects, categories)


def _key(value: Any) -> Any:
    """Returns an id in one form, because tools write it as 7, 7.0 or '7'."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _image(entry: dict) -> CocoImage:
    name = entry.get('file_name') or entry.get('coco_url', '').rpartition('/')[2]
    if not name:
        raise KeyError('file_name')
    sides = (entry.get(side) for side in ('width', 'height'))
    return CocoImage(str(name).replace('\\', '/'), *(int(side) if side else None for side in sides))


def _object(entry: dict) -> CocoObject:
    mask = entry.get('segmentation')
    if isinstance(mask, list):
        if mask and not isinstance(mask[0], (list, dict)):
            mask = [mask]  # a polygon that is not in a list
        mask = [polygon for polygon in mask if polygon]
    return CocoObject(
        _key(entry.get('category_id')),
        mask or None,
        entry.get('bbox') or None,
        bool(int(entry.get('iscrowd') or 0)),
    )
