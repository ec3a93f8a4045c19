"""Writes a labelled set in the form that mmdet, mmseg and the probes read."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from plrc_plugin.images.decoding import ImageFile
from plrc_plugin.outputs import publish
from plrc_plugin.worth.labels import BOXES, LabelledImage, LabelledSet
from plrc_plugin.worth.mask_labels import numbered, read_mask
from plrc_plugin.worth.splits import Split, drawn

LISTS = Path('ImageSets', 'Segmentation')


def part_name(percent: float, seed: int) -> str:
    """Returns the name of the list of labelled images that one training sees."""
    return f'train_{percent:g}' if percent == 100 else f'train_{percent:g}_seed{seed}'


def write_labels(
    folder: Path, labels: LabelledSet, split: Split, percents: Sequence[float], seeds: Sequence[int]
) -> None:
    """Writes ``test``, ``train_100`` and each smaller part of each seed.

    Boxes become COCO jsons with absolute paths of images. An object without an outline gets its box
    as outline, for the probes. Masks become a folder in VOC's layout, with links to the images.
    Existing files are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = {'test': split.test, 'train_100': split.train}
    for seed in seeds:
        for percent in percents:
            places = drawn(len(split.train), percent, seed)
            parts.setdefault(part_name(percent, seed), [split.train[i] for i in places])
    if labels.kind == BOXES:
        for name, images in parts.items():
            path = folder / f'{name}.json'
            if not path.exists():
                publish(path, json.dumps(_coco(images, labels.classes)))
        return
    (folder / LISTS).mkdir(parents=True, exist_ok=True)
    names = {
        id(image): f'{side}{i:06}'
        for side, images in (('train', split.train), ('test', split.test))
        for i, image in enumerate(images)
    }
    if not (folder / LISTS / 'train_100.txt').exists():
        for image in (*split.train, *split.test):
            _write_mask(folder, names[id(image)], image, labels.values)
    for name, images in parts.items():
        publish(folder / LISTS / f'{name}.txt', '\n'.join(names[id(i)] for i in images) + '\n')


def _coco(images: Sequence[LabelledImage], classes: Sequence[str]) -> dict:
    records, annotations = [], []
    for key, image in enumerate(images, 1):
        width, height = ImageFile(str(image.path)).size
        name = str(image.path.resolve())
        records.append(dict(id=key, file_name=name, width=width, height=height))
        for each in image.objects:
            left, top, w, h = each.box
            corners = [left, top, left + w, top, left + w, top + h, left, top + h]
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=key,
                    category_id=each.label + 1,
                    bbox=each.box,
                    area=w * h,
                    iscrowd=int(each.ignored),
                    segmentation=each.outline or [corners],
                )
            )
    categories = [dict(id=i, name=name) for i, name in enumerate(classes, 1)]
    return dict(images=records, annotations=annotations, categories=categories)


def _write_mask(folder: Path, name: str, image: LabelledImage, values: tuple[int, ...]) -> None:
    pictures, masks = folder / 'JPEGImages', folder / 'SegmentationClass'
    for each in (pictures, masks):
        each.mkdir(exist_ok=True)
    assert image.mask is not None
    Image.fromarray(numbered(read_mask(image.mask), values)).save(masks / f'{name}.png')
    link = pictures / f'{name}.jpg'  # image readers look at the content
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(image.path.resolve())
    except OSError:  # file systems without links
        shutil.copyfile(image.path, link)
