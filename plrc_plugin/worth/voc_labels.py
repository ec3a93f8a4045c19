"""Reads labels in VOC's XML, with a file for each image."""

from pathlib import Path
from typing import Optional
from xml.etree import ElementTree

from plrc_plugin.errors import SettingsError
from plrc_plugin.worth.labels import (
    BOXES,
    ImageFinder,
    LabelledImage,
    LabelledObject,
    LabelledSet,
)


def read_voc_labels(folder: Path, images: Optional[Path]) -> LabelledSet:
    """Reads a folder of XML files, see :func:`~plrc_plugin.worth.labels.read_labels`.

    Difficult objects are left out of training and test. Classes are sorted by name.

    Raises:
        SettingsError: if a file cannot be read, or an image is missing.
    """
    files = sorted(folder.glob('*.xml'))
    find = ImageFinder(folder, images, [file.stem for file in files])
    read = [(find(file.stem), _objects(file)) for file in files]
    classes = sorted({name for _, objects in read for name, *_ in objects})
    label_of = {name: i for i, name in enumerate(classes)}
    return LabelledSet(
        BOXES,
        tuple(classes),
        [
            LabelledImage(
                path,
                tuple(
                    LabelledObject(label_of[name], box, None, difficult)
                    for name, box, difficult in objects
                ),
            )
            for path, objects in read
        ],
    )


def _objects(file: Path) -> list[tuple[str, list, bool]]:
    """Yields (class, box, whether it is difficult) for each object."""
    found = []
    try:
        for each in ElementTree.parse(file).getroot().iter('object'):
            corners = [float(each.find('bndbox').findtext(c)) for c in _CORNERS]
            left, top, right, bottom = corners
            box = [left - 1, top - 1, right - left + 1, bottom - top + 1]  # VOC counts from 1
            if min(box[2:]) > 0:
                difficult = each.findtext('difficult', '0').strip() == '1'
                found.append((each.findtext('name').strip(), box, difficult))
    except (ElementTree.ParseError, AttributeError, TypeError, ValueError, OSError) as error:
        raise SettingsError(
            f"labels: {file} cannot be read as VOC's XML ({error}): mend or remove it"
        ) from error
    return found


_CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')
