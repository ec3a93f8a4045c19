"""Reads labels in COCO's json."""

from pathlib import Path
from typing import Optional

from plrc_plugin.errors import SettingsError
from plrc_plugin.images.coco_json import read_coco
from plrc_plugin.worth.labels import (
    BOXES,
    ImageFinder,
    LabelledImage,
    LabelledObject,
    LabelledSet,
)


def read_coco_labels(path: Path, images: Optional[Path]) -> LabelledSet:
    """Reads a json of COCO, see :func:`~plrc_plugin.worth.labels.read_labels`.

    Raises:
        SettingsError: if it cannot be read, has no box, or an image is missing.
    """
    found = read_coco(path, f'labels={str(path)!r}')
    ids = sorted(found.categories, key=lambda key: (isinstance(key, str), key))
    label_of = {key: i for i, key in enumerate(ids)}
    if not found.images:
        raise SettingsError(f'labels: {path} names no image')
    folder = path.parent
    names = [image.name for image in found.images.values()]
    if images is None:  # COCO's own layout: annotations/instances_train2017.json, train2017/
        split = path.stem.removeprefix('instances_')
        images = next((f for f in (folder.parent / split, folder / split) if f.is_dir()), None)
    find = ImageFinder(folder, images, names)
    labelled = []
    for key, image in found.images.items():
        objects = []
        for each in found.objects.get(key, ()):
            if each.category not in label_of:
                raise SettingsError(
                    f'labels: {path} has objects of category_id {each.category!r}, but no such '
                    'category: add it'
                )
            if each.box is None:
                raise SettingsError(
                    f'labels: an object of {image.name} in {path} has no bbox: detectors learn '
                    'from boxes; add it'
                )
            if min(each.box[2:]) > 0:
                label = label_of[each.category]
                objects.append(LabelledObject(label, each.box, each.mask, each.crowd))
        labelled.append(LabelledImage(find(image.name), tuple(objects)))
    return LabelledSet(BOXES, tuple(found.categories[key] for key in ids), labelled)
