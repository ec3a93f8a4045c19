"""Divides labelled images into training and test, and chooses those that make 1% of the training
images."""

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from plrc_plugin.errors import SettingsError
from plrc_plugin.randomness import SampleKey, stream
from plrc_plugin.worth.labels import LabelledImage, LabelledSet, read_labels

TEST_SHARE = 0.25


class Split(NamedTuple):
    """Labelled images to train on and to test on, and the rule that separated them."""

    train: list[LabelledImage]
    test: list[LabelledImage]
    rule: str


def content_key(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def split_labels(
    labels: LabelledSet, test: Optional[Path] = None, images: Optional[Path] = None
) -> Split:
    """Splits a labelled set by image.

    Without a split of the user's own, images are ordered by the SHA-256 of their content, and the
    first quarter is for the test. The split does not depend on names or order of files, and copies
    of an image are never on both sides.

    Args:
        labels: the set.
        test: the user's own split: a text file with the name of a test image in each line; or
            another labelled set for the test, while all of ``labels`` trains.
        images: folder of the images of that set.

    Raises:
        SettingsError: if a side has no image with a label.
    """
    if test is not None and Path(test).suffix == '.txt':
        split = _by_list(labels, Path(test))
    elif test is not None:
        split = _by_set(labels, Path(test), images)
    else:
        split = _by_content(labels)
    # A detector learns nothing from images without objects alone.
    train = [image for image in split.train if image.objects or image.mask is not None]
    usable = [image for image in split.test if image.objects or image.mask is not None]
    for side, kept in (('train', train), ('test', usable)):
        if not kept:
            raise SettingsError(
                f'labels: no labelled image is left to {side} with ({split.rule}): give more '
                'labels, or a split of your own by --test'
            )
    return split._replace(train=train)


def _by_content(labels: LabelledSet) -> Split:
    keys = {image.path: content_key(image.path) for image in labels.images}
    order = sorted(set(keys.values()))
    first = set(order[: max(1, round(TEST_SHARE * len(order)))])
    sides: tuple[list, list] = ([], [])
    for image in labels.images:
        sides[keys[image.path] in first].append(image)
    return Split(*sides, 'a quarter of the images tests, chosen by the SHA-256 of their content')


def _by_list(labels: LabelledSet, file: Path) -> Split:
    try:
        names = {line.split()[0] for line in file.read_text().splitlines() if line.strip()}
    except OSError as error:
        raise SettingsError(f'--test: {file} cannot be read: {error}') from error
    stems = {Path(name).name for name in names} | {Path(name).stem for name in names}
    sides: tuple[list, list] = ([], [])
    for image in labels.images:
        sides[image.path.name in stems or image.path.stem in stems].append(image)
    return Split(*sides, f'the images that {file.name} lists test')


def _by_set(labels: LabelledSet, path: Path, images: Optional[Path]) -> Split:
    other = read_labels(path, images)
    if other.kind != labels.kind:
        raise SettingsError(f'--test: {path} has {other.kind}, and --labels has {labels.kind}')
    unknown = set(other.classes) - set(labels.classes)
    if unknown:
        raise SettingsError(f'--test: {path} has the class {min(unknown)!r}, --labels has it not')
    place = [labels.classes.index(name) for name in other.classes]
    if other.values and other.values != labels.values:
        raise SettingsError(
            f'--test: the masks of {path} have the numbers {list(other.values)}, those of --labels '
            f'{list(labels.values)}'
        )
    moved = [
        image._replace(objects=tuple(o._replace(label=place[o.label]) for o in image.objects))
        for image in other.images
    ]
    return Split(list(labels.images), moved, f'the images of {path.name} test')


def drawn(count: int, percent: float, seed: int) -> list[int]:
    """Returns the indices of the training images that make ``percent`` of ``count``, at least one,
    in rising order. The images of a smaller percentage are among those of a larger one with the
    same seed."""
    order = stream(SampleKey(seed, 0, 0), 'labelled images').permutation(count)
    return sorted(order[: max(1, round(count * percent / 100))].tolist())


def same_content(images: Collection[Path], others: Sequence[Path]) -> set[Path]:
    """Returns those of ``others`` that equal one of ``images`` byte by byte. Files of other sizes
    are not read."""
    sizes = {path.stat().st_size for path in images}
    alike = [path for path in others if _size(path) in sizes]
    keys = {content_key(path) for path in images} if alike else set()
    return {path for path in alike if content_key(path) in keys}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
