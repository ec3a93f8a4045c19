"""Writes generated multi-object scenes, with their truth, as a data set on disk.

Layout under the root::

    train/scene_000000.jpg ...            val/...            pictures (JPEG, quality 92)
    semantic/train/scene_000000.png ...   semantic/val/...   0 = background, 1 + category index
    annotations/instances_train.json      instances_val.json COCO's instance format
    scenes.json                                              the settings that made this folder

The instance masks are uncompressed RLE, which keeps holes and single pixels exact: mmdet reads
them with its default ``poly2mask=True``. Masks hold only what is seen, they do not overlap, and
COCO's category id is the value in the semantic map. For mmseg, the background is a class
(9 in all), ``reduce_zero_label=False``; the value 255 does not occur.

The same settings give the same bytes with the same versions of numpy and OpenCV.
"""

import json
import os
import re
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Union

import cv2
import numpy as np

from plrc_plugin.datasets.scenes.composition import (
    SPLITS,
    Instance,
    Scene,
    check_size,
    compose_scene,
)
from plrc_plugin.datasets.scenes.cutouts import CATEGORIES
from plrc_plugin.errors import SettingsError

__all__ = ['CATEGORIES', 'Instance', 'Scene', 'compose_scene', 'encode_rle', 'make_scenes']

VERSION = 1  # raise this number whenever the same settings give other pictures
_MARK = 'scenes.json'
_FOLDERS = ('train', 'val', 'semantic/train', 'semantic/val', 'semantic', 'annotations')
_OURS = re.compile(
    r'(train|val)/scene_\d{6,}\.jpg|semantic/(train|val)/scene_\d{6,}\.png|'
    r'annotations/instances_(train|val)\.json|scenes\.json'
)


def make_scenes(
    root: Union[str, Path],
    num_train: int = 1000,
    num_val: int = 100,
    seed: int = 0,
    size: tuple[int, int] = (320, 240),
    progress: bool = True,
) -> Path:
    """Makes a set of scenes, unless the same set is already there.

    The set is written beside the root and moved into place when it is whole. A folder of ours
    that is incomplete or was made with other settings is replaced.

    Args:
        root: Folder to make. It may exist if it is empty or an earlier set of scenes.
        num_train: Number of training scenes.
        num_val: Number of validation scenes, from a random stream of their own.
        seed: Seed of the set; scene i does not depend on the counts.
        size: Largest (width, height) of a scene in pixels.
        progress: Whether to print how far it is and how long it will take.

    Returns:
        The root.

    Raises:
        SettingsError: On impossible counts, seed or size, on a root that cannot be written and
            on a root with files that are not ours; these are never deleted.
    """
    counts = {'train': num_train, 'val': num_val}
    for name, value in (('num_train', num_train), ('num_val', num_val), ('seed', seed)):
        if not isinstance(value, (int, np.integer)) or value < 0:
            raise SettingsError(f'{name} must be a whole number, not negative, got {value!r}')
    if num_train + num_val == 0:
        raise SettingsError('num_train and num_val are both 0: ask for at least one scene')
    check_size(size)
    settings = dict(
        generator='plrc_plugin.scenes',
        version=VERSION,
        seed=int(seed),
        num_train=int(num_train),
        num_val=int(num_val),
        size=[int(side) for side in size],
    )

    root = Path(root).expanduser().resolve()
    try:
        if _is_complete(root, settings):
            if progress:
                print(f'{root}: {num_train} + {num_val} scenes are already there', flush=True)
            return root
        _check_replaceable(root)
        root.parent.mkdir(parents=True, exist_ok=True)
        partial = _beside(root, 'partial')
        try:
            _write_set(partial, settings, counts, progress)
            _move_into_place(partial, root)
        finally:
            _remove_ours(partial)
    except OSError as error:
        raise SettingsError(
            f'cannot write the scenes to root={str(root)!r} ({error}): choose a '
            'folder that can be written, with enough space'
        ) from error
    if progress:
        print(f'{root}: {num_train} + {num_val} scenes made', flush=True)
    return root


def encode_rle(mask: np.ndarray) -> dict:
    """COCO's uncompressed run lengths of a mask, column by column, zeros first.

    Args:
        mask: (H, W) bool.

    Returns:
        {'size': [H, W], 'counts': list of run lengths}.
    """
    flat = np.concatenate([[False], mask.ravel(order='F'), [not mask[-1, -1]]])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    return {'size': list(mask.shape), 'counts': np.diff(ends, prepend=0).tolist()}


# ---- writing ------------------------------------------------------------------------------


def _write_set(root: Path, settings: dict, counts: dict[str, int], progress: bool) -> None:
    for folder in _FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    meter = _Meter(sum(counts.values()), progress)
    for split in SPLITS:
        images, annotations = [], []
        for index in range(counts[split]):
            scene = compose_scene(settings['seed'], index, split, tuple(settings['size']))
            name = _name(index)
            height, width = scene.semantic.shape
            images.append(dict(id=index + 1, file_name=f'{name}.jpg', width=width, height=height))
            annotations += _annotations(scene, index + 1, first_id=len(annotations) + 1)
            _write(
                root / split / f'{name}.jpg', scene.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92]
            )
            _write(root / 'semantic' / split / f'{name}.png', scene.semantic, [])
            meter.step()
        coco = dict(
            info=dict(description='plrc_plugin generated scenes', version=str(VERSION)),
            licenses=[],
            images=images,
            annotations=annotations,
            categories=[dict(id=i + 1, name=n, supercategory='') for i, n in enumerate(CATEGORIES)],
        )
        path = root / 'annotations' / f'instances_{split}.json'
        path.write_text(json.dumps(coco, separators=(',', ':')), encoding='utf-8')
    (root / _MARK).write_text(json.dumps(settings, indent=1) + '\n', encoding='utf-8')


def _annotations(scene: Scene, image_id: int, first_id: int) -> list[dict]:
    return [
        dict(
            id=first_id + i,
            image_id=image_id,
            category_id=instance.category + 1,
            bbox=instance.bbox,
            area=instance.area,
            iscrowd=0,
            segmentation=encode_rle(instance.mask),
        )
        for i, instance in enumerate(scene.instances)
    ]


def _write(path: Path, picture: np.ndarray, flags: list[int]) -> None:
    # cv2.imwrite is not used, because it reports a full disk only by its return value.
    done, data = cv2.imencode(path.suffix, picture, flags)
    if not done:
        raise OSError(f'OpenCV cannot encode {path.name}')
    path.write_bytes(data.tobytes())


def _name(index: int) -> str:
    return f'scene_{index:06d}'


class _Meter:
    """Shows progress: one line that updates itself on a terminal, and a line per tenth
    elsewhere."""

    def __init__(self, total: int, shown: bool) -> None:
        self.total, self.shown, self.done = total, shown, 0
        self.start = self.last = time.monotonic()
        self.terminal = sys.stdout.isatty()

    def step(self) -> None:
        self.done += 1
        if not self.shown:
            return
        now, whole = time.monotonic(), self.done == self.total
        tenth = self.done * 10 // self.total > (self.done - 1) * 10 // self.total
        if whole or (now - self.last > 0.2 if self.terminal else tenth):
            self.last = now
            left = (now - self.start) / self.done * (self.total - self.done)
            line = f'scenes {self.done}/{self.total}, {left:.0f} s left'
            print(
                f'\r{line:<50}' if self.terminal else line,
                flush=True,
                end='\n' if whole or not self.terminal else '',
            )


# ---- the folder ---------------------------------------------------------------------------


def _is_complete(root: Path, settings: dict) -> bool:
    """Whether the root holds every file of the set that these settings make."""
    try:
        if json.loads((root / _MARK).read_text(encoding='utf-8')) != settings:
            return False
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    names = [f'annotations/instances_{split}.json' for split in SPLITS]
    for split in SPLITS:
        for index in range(settings[f'num_{split}']):
            names += [f'{split}/{_name(index)}.jpg', f'semantic/{split}/{_name(index)}.png']
    return all((root / name).is_file() and (root / name).stat().st_size > 0 for name in names)


def _check_replaceable(root: Path) -> None:
    """Raises SettingsError unless the root is missing, empty, or holds an earlier set and nothing
    else."""
    if not root.exists():
        return
    if not root.is_dir():
        raise SettingsError(f'root={str(root)!r} is a file: name a folder')
    foreign = [path for path in root.rglob('*') if not _is_ours(path, root)]
    if not foreign and (any(root.iterdir()) and not (root / _MARK).is_file()):
        foreign = list(root.iterdir())  # without our mark it may be anyone's
    if foreign:
        raise SettingsError(
            f'root={str(root)!r} has files that are not generated scenes, e.g. {foreign[0].name}: '
            'name a new or empty folder, or move them away'
        )


def _is_ours(path: Path, root: Path) -> bool:
    name = path.relative_to(root).as_posix()
    if path.is_symlink():
        return False
    return name in _FOLDERS if path.is_dir() else bool(_OURS.fullmatch(name))


def _beside(root: Path, purpose: str) -> Path:
    return root.parent / f'.{root.name}.{uuid.uuid4().hex[:8]}.{purpose}'


def _move_into_place(partial: Path, root: Path) -> None:
    """Puts the whole new set where the old one was, and removes the old one only then."""
    if not root.exists():
        os.rename(partial, root)
        return
    old = _beside(root, 'old')
    os.rename(root, old)
    try:
        os.rename(partial, root)
    except OSError:
        os.rename(old, root)
        raise
    _remove_ours(old)


def _remove_ours(root: Path) -> None:
    """Deletes our files and the folders that are then empty, and leaves everything else."""
    if not root.is_dir():
        return
    for path in list(root.rglob('*')):
        if path.is_file() and _is_ours(path, root):
            path.unlink()
    for folder in (*_FOLDERS, '.'):
        with suppress(OSError):  # it is missing, or holds a file that is not ours
            (root / folder).rmdir()
