"""Reads a labelled set: COCO's json, a folder of VOC's XML, or a folder of masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from plrc_plugin.errors import SettingsError
from plrc_plugin.images.decoding import EXTENSIONS

BOXES, MASKS = 'boxes', 'masks'
# Usual folders of images, relative to the folder of their labels.
_BESIDE = ('../JPEGImages', '../images', 'JPEGImages', 'images', '.', '..')


class LabelledObject(NamedTuple):
    """An object: its class from 0, its box (left, top, width, height) in pixels, its outline as in
    COCO's json or None, and whether it is left out of training and test, as crowds are."""

    label: int
    box: list
    outline: Any
    ignored: bool


class LabelledImage(NamedTuple):
    """An image with its objects, or with the file of its mask."""

    path: Path
    objects: tuple[LabelledObject, ...] = ()
    mask: Optional[Path] = None


class LabelledSet(NamedTuple):
    """Images with one kind of label, :data:`BOXES` or :data:`MASKS`.

    ``classes`` are names without the background. ``values`` are the numbers of the background and
    of each class in the files of masks.
    """

    kind: str
    classes: tuple[str, ...]
    images: list[LabelledImage]
    values: tuple[int, ...] = ()


def read_labels(path: Path, images: Optional[Path] = None) -> LabelledSet:
    """Reads a labelled set.

    Args:
        path: a json of COCO, a folder of VOC's XML files or of masks, or one like VOC2012 that
            holds ``Annotations`` or else ``SegmentationClass``.
        images: folder of its images. Defaults to one beside the labels.

    Raises:
        SettingsError: if it is none of these, or an image is missing.
    """
    from plrc_plugin.worth.coco_labels import read_coco_labels
    from plrc_plugin.worth.mask_labels import read_mask_labels
    from plrc_plugin.worth.voc_labels import read_voc_labels

    path = Path(path)
    if images is not None and not Path(images).is_dir():
        raise SettingsError(f'images: {images} is not a folder')
    if path.is_file() and path.suffix == '.json':
        return read_coco_labels(path, images)
    if not path.is_dir():
        raise SettingsError(
            f'labels: {path} is neither a json nor a folder: give a json of COCO, a folder of XML '
            'files as of VOC, or a folder of masks'
        )
    for folder in (path, path / 'Annotations'):
        if next(folder.glob('*.xml'), None):
            return read_voc_labels(folder, images)
    for folder in (path, path / 'SegmentationClass'):
        if next(folder.glob('*.png'), None):
            return read_mask_labels(folder, images)
    raise SettingsError(
        f'labels: {path} holds neither *.xml nor *.png files: give the folder in which they lie, '
        "or a json in COCO's format"
    )


class ImageFinder:
    """Finds images by name or by stem, in a folder that is given or in one beside the labels.

    Args:
        labels: folder of the labels.
        images: folder of the images, or None.
        samples: some of the names. The first folder that has one of them is taken.

    Raises:
        SettingsError: if no folder has any of them.
    """

    def __init__(self, labels: Path, images: Optional[Path], samples: Sequence[str]) -> None:
        self._found: dict[Path, dict[str, Path]] = {}
        candidates = [Path(images)] if images is not None else [labels / f for f in _BESIDE]
        candidates += [] if images is not None else [labels.parent / Path(labels.name).stem]
        for folder in candidates:
            self.folder = folder.resolve()
            if folder.is_dir() and any(self._of(name) is not None for name in samples[:20]):
                return
        raise SettingsError(
            f'labels: no image of {labels} is in {", ".join(str(c) for c in candidates[:3])}, ... '
            f'(looked for {samples[0]}): name their folder with --images'
        )

    def __call__(self, name: str) -> Path:
        """Returns the path of an image.

        Raises:
            SettingsError: if there is no such image.
        """
        found = self._of(name)
        if found is None:
            raise SettingsError(
                f'labels: the image {name} is not in {self.folder}: add it, remove its label, or '
                'name another folder with --images'
            )
        return found

    def _of(self, name: str) -> Optional[Path]:
        for path in (self.folder / name, self.folder / Path(name).name):
            if path.suffix.lower() in EXTENSIONS and path.is_file():
                return path
        here = (self.folder / name).parent
        if not here.is_dir():
            here = self.folder
        if here not in self._found:
            files = sorted(p for p in here.iterdir() if p.suffix.lower() in EXTENSIONS)
            self._found[here] = {p.stem: p for p in files[::-1]}
        known = self._found[here]
        return known.get(Path(name).name) or known.get(Path(name).stem)
