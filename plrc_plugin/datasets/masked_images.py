"""Photographs with semantic and instance masks, for probes: VOC's layout and COCO's."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

import cv2
import numpy as np
from PIL import Image

from plrc_plugin.errors import SettingsError, check_positive_integers
from plrc_plugin.images import ImageFile
from plrc_plugin.images.coco_json import read_coco
from plrc_plugin.images.coco_masks import box_mask, instance_mask, masks_of
from plrc_plugin.images.rasters.scaling import Window
from plrc_plugin.regions.source import VOID
from plrc_plugin.registry import DATASETS, MASK_LAYOUTS
from plrc_plugin.views.opening import Opener

VOC_VOID = 255  # the void value in VOC's files
VOC_CLASSES = (
    'background',
    'aeroplane',
    'bicycle',
    'bird',
    'boat',
    'bottle',
    'bus',
    'car',
    'cat',
    'chair',
    'cow',
    'diningtable',
    'dog',
    'horse',
    'motorbike',
    'person',
    'pottedplant',
    'sheep',
    'sofa',
    'train',
    'tvmonitor',
)


class MaskedImage(NamedTuple):
    """An image with the class and the object of each pixel.

    Attributes:
        image: (H, W, 3) uint8 RGB, or (H, W, C) float32 in [0, 255] if channels are declared.
        semantic: (H, W) int32 class of each pixel, 0 = background, -1 = void.
        instances: (H, W) int32, 0 = background, 1, 2, ... the objects, -1 = void.
    """

    image: np.ndarray
    semantic: np.ndarray
    instances: np.ndarray


@DATASETS.register_module()
class VOCMasks:
    """PASCAL VOC's segmentation: ``JPEGImages``, ``SegmentationClass`` and ``SegmentationObject``.
    Without the last, the connected parts of a class count as its objects.

    Args:
        data_root: the folder, e.g. ``data/VOCdevkit/VOC2012``.
        split: name of a list in ``ImageSets/Segmentation``.
        max_images: take only so many first images.
        window, channels, max_pixels: as for :class:`~plrc_plugin.views.TwoViews`. Defaults to those
            of the training.
        suffix: suffix of the images. Defaults to '.jpg'.
        classes: names for the numbers 0, 1, ... of the masks. Defaults to VOC's.

    Raises:
        SettingsError: if there is no such list, or it names no image.
    """

    READS_LIKE_TRAINING = True

    def __init__(
        self,
        data_root: str,
        split: str,
        max_images: Optional[int] = None,
        window: Optional[Window] = None,
        channels: Optional[int] = None,
        max_pixels: Optional[int] = None,
        suffix: str = '.jpg',
        classes: Sequence[str] = VOC_CLASSES,
    ) -> None:
        if max_images is not None:
            check_positive_integers('VOCMasks', max_images=max_images)
        self.open = Opener('VOCMasks', window, channels, max_pixels)
        self.suffix, self.classes = suffix, tuple(classes)
        self.root = Path(data_root)
        names = self.root / 'ImageSets' / 'Segmentation' / f'{split}.txt'
        if not names.is_file():
            raise SettingsError(
                f'VOCMasks: there is no list {names}: data_root must be a folder '
                'like VOCdevkit/VOC2012, split the name of one of its lists'
            )
        self.names = names.read_text().split()[:max_images]
        _check_not_empty(self.names, 'VOCMasks', names)
        self.with_instances = (self.root / 'SegmentationObject').is_dir()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> MaskedImage:
        name = self.names[index]
        path = self.root / 'SegmentationClass' / f'{name}.png'
        semantic = np.array(Image.open(path)).astype(np.int32)
        semantic[semantic == VOC_VOID] = VOID
        if self.with_instances:
            path = self.root / 'SegmentationObject' / f'{name}.png'
            instances = np.array(Image.open(path)).astype(np.int32)
            instances[instances == VOC_VOID] = VOID
        else:
            instances = connected_parts(semantic)
        path = self.root / 'JPEGImages' / f'{name}{self.suffix}'
        image = self.open.whole(dict(img_path=str(path)))
        return MaskedImage(image, semantic, instances)


@DATASETS.register_module()
class COCOMasks:
    """COCO's instance annotations, which generated scenes have too.

    Class c, from 1, is the c-th category by rising id. Smaller objects lie over larger ones. Crowds
    are void, and so are the boxes of objects without a mask. See
    :func:`~plrc_plugin.images.coco_json.read_coco` for what a json may look like.

    Args:
        annotations: the JSON file.
        images: folder of the images.
        max_images: take only so many first images that have an object.
        window, channels, max_pixels: as for :class:`~plrc_plugin.views.TwoViews`. Defaults to those
            of the training.

    Raises:
        SettingsError: if the file is missing or no COCO JSON, or names no image with an object.
    """

    READS_LIKE_TRAINING = True

    def __init__(
        self,
        annotations: str,
        images: str,
        max_images: Optional[int] = None,
        window: Optional[Window] = None,
        channels: Optional[int] = None,
        max_pixels: Optional[int] = None,
    ) -> None:
        if max_images is not None:
            check_positive_integers('COCOMasks', max_images=max_images)
        self.open = Opener('COCOMasks', window, channels, max_pixels)
        found = read_coco(annotations, f'COCOMasks: annotations={str(annotations)!r}')
        self.records = [
            (image, found.objects[key])
            for key, image in found.images.items()
            if found.objects.get(key)
        ][:max_images]
        _check_not_empty(self.records, 'COCOMasks', annotations)
        if all(o.mask is None for _, objects in self.records for o in objects):
            raise SettingsError(
                f'COCOMasks: the objects of annotations={str(annotations)!r} have boxes and no '
                'masks, and probes compare with masks: name a json with a segmentation'
            )
        unknown = {o.category for _, objects in self.records for o in objects} - set(
            found.categories
        )
        if unknown:
            raise SettingsError(
                f'COCOMasks: annotations={str(annotations)!r} has objects of category_id '
                f'{min(unknown, key=str)!r}, but no such category: add it'
            )
        self.images = Path(images)
        ids = sorted(found.categories, key=lambda key: (isinstance(key, str), key))
        self.classes = ('background', *(found.categories[key] for key in ids))
        self._label = {key: i + 1 for i, key in enumerate(ids)}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> MaskedImage:
        record, objects = self.records[index]
        file = self.open(dict(img_path=str(self._path(record.name))))
        width, height = file.size
        size = (record.width or width, record.height or height)
        try:
            masks = [
                masks_of([shape], draw, size, file)[0] if shape else np.zeros((height, width), bool)
                for o in objects
                for shape, draw in [(o.mask, instance_mask) if o.mask else (o.box, box_mask)]
            ]
        except (ValueError, TypeError, IndexError, KeyError, cv2.error) as error:
            raise SettingsError(
                f'COCOMasks: an object of {file.path} cannot be read; the json says that the '
                f'image is {size[0]} x {size[1]} pixels: {" ".join(str(error).split())}'
            ) from error
        semantic = np.zeros((height, width), np.int32)
        instances = np.zeros((height, width), np.int32)
        void = [o.crowd or o.mask is None for o in objects]
        # Void objects first, then the others from the largest to the smallest.
        for i in sorted(range(len(objects)), key=lambda i: (not void[i], -masks[i].sum())):
            semantic[masks[i]] = VOID if void[i] else self._label[objects[i].category]
            instances[masks[i]] = VOID if void[i] else i + 1
        image = file.decode()
        return MaskedImage(
            image if isinstance(file, ImageFile) else image[:, :], semantic, instances
        )

    def _path(self, name: str) -> Path:
        """Finds an image by its name or, because some tools write other folders into it, by its
        last part."""
        path = self.images / name
        return path if path.exists() else self.images / Path(name).name


@MASK_LAYOUTS.register_module('voc')
def voc_layout(root: Path, split: str) -> dict:
    """The config for a folder like VOC2012."""
    return dict(type='plrc_plugin.VOCMasks', data_root=str(root), split=split)


@MASK_LAYOUTS.register_module('coco')
def coco_layout(root: Path, split: str) -> dict:
    """The config for COCO 2017."""
    return _coco_masks(root, f'{split}2017')


@MASK_LAYOUTS.register_module('scenes')
def scenes_layout(root: Path, split: str) -> dict:
    """The config for what :func:`~plrc_plugin.datasets.scenes.make_scenes` makes."""
    return _coco_masks(root, split)


def _coco_masks(root: Path, name: str) -> dict:
    return dict(
        type='plrc_plugin.COCOMasks',
        images=str(Path(root, name)),
        annotations=str(Path(root, 'annotations', f'instances_{name}.json')),
    )


def masked_images(data: str, root: Path, split: str, max_images: Optional[int] = None) -> dict:
    """Returns the config of the images of a data set in its usual layout.

    Args:
        data: name of a layout: 'voc', 'coco', 'scenes', or a function (root, split) -> config that
            another module registered in ``plrc_plugin.registry.MASK_LAYOUTS``.
        root: folder of the data set.
        split: 'train' or 'val'.
        max_images: take only so many first images.

    Raises:
        SettingsError: if there is no such layout.
    """
    layouts = MASK_LAYOUTS.module_dict
    if data not in layouts:
        raise SettingsError(f'data must be one of {", ".join(layouts)}, got {data!r}')
    return dict(layouts[data](root, split), max_images=max_images)


def connected_parts(semantic: np.ndarray) -> np.ndarray:
    """Numbers the 8-connected parts of each class (H, W) from 1; background is 0, void -1."""
    parts = np.zeros(semantic.shape, np.int32)
    count = 0
    for label in np.setdiff1d(semantic, (0, VOID)):
        found, numbered = cv2.connectedComponents((semantic == label).astype(np.uint8))
        parts[numbered > 0] = numbered[numbered > 0] + count
        count += found - 1
    parts[semantic == VOID] = VOID
    return parts


def _check_not_empty(found: list, owner: str, source) -> None:
    if not found:
        raise SettingsError(f'{owner}: {source} names no image to evaluate on')
