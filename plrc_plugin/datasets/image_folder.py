"""Unlabelled photographs: all images below a folder, in shards, at an address, or in a list."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Optional, Union

import numpy as np
from mmengine.dataset import BaseDataset

from plrc_plugin.datasets.keys import current_key, plain_index
from plrc_plugin.errors import SettingsError, check_positive_integers
from plrc_plugin.images.decoding import EXTENSIONS, DecodingError
from plrc_plugin.images.file_index import FileIndex, image_index, packed
from plrc_plugin.images.file_list import listed_images
from plrc_plugin.images.patterns import Patterns, Selection
from plrc_plugin.images.sources import Source, holds_shards, is_plain
from plrc_plugin.randomness import SampleKey, stream
from plrc_plugin.registry import DATASETS

_REMEDY = (
    'Set it with --cfg-options train_dataloader.dataset.data_root=<folder> or, in the '
    'configs shipped here, with the environment variable that their head names.'
)
_CHECKED = 1000  # how many names of a list are checked before the run
_WRITTEN = (str, lambda name: name.replace('\\', '/'))  # the separator as it is, or that of Windows


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """All images below ``data_root``, or those that ``ann_file`` lists. The folder may be flat or
    nested, as ImageNet's, COCO's or your own. Images may also be in shards or at an address, see
    docs/data.md.

    Images are ordered by their path relative to the folder. Listed images keep the order of their
    list. An image that cannot be decoded is replaced by another, drawn as a function of the
    sample's key, and reported in ``results['skipped']``, a list of (path, reason). The record of an
    image holds ``data_root``, ``name``, the path relative to it, and ``img_path``, which joins
    both. If the image is in a shard or at an address, ``stored`` gives its content. ``img_path`` is
    then its path in the folder that the shards stand for, such as ``photos`` for ``photos.tar``.

    Args:
        data_root (str): the folder; links are followed. It may also be shards, ``photos.tar``,
            ``.zip``, ``.parquet`` or ``.arrow``, a pattern such as ``shards/*.tar``, or an address
            of fsspec, ``s3://bucket/photos``: see :mod:`plrc_plugin.images.sources`.
        ann_file (str): list of the images to take, a path relative to ``data_root``, see
            :func:`~plrc_plugin.images.file_list.listed_images`. Names in it are relative to the
            folder of ``data_prefix``, or else to ``data_root``. An image that is listed twice is
            read twice. For shards and addresses it is a path of its own on this machine. Defaults
            to '', for all images.
        ann_column (str, optional): column or key of the list that names the images. Defaults to the
            first with a usual name.
        data_prefix (str | dict[str, str]): folder of the images relative to ``data_root``, as text
            or as ``dict(img_path=...)``. Defaults to ''.
        exclude (str | Sequence[str], optional): patterns of files not to train on, such as
            ``'*_regions.png'`` for label maps beside the images. A pattern is matched with the
            file's name or, if it has a slash, with the path below the root, such as ``'night/*'``.
        include (str | Sequence[str], optional): patterns; an image must match at least one.
        storage_options (dict, optional): options of fsspec's file system, for an address.
        shard_names (bool): whether names of images begin with the name of their shard, for shards
            that use the same names. Defaults to False.
        image_column, name_column (str, optional): columns of Parquet and Arrow tables. By default
            they are found.
        indices (int | Sequence[int], optional): take only so many first images, so many last images
            if negative, or the images at these indices.
        max_refetch (int): how many images are tried in place of one that cannot be decoded.
            Defaults to 100.
        test_mode (bool): whether a plain index is enough. It gives the same sample each time, and
            an image that cannot be decoded is an error. Defaults to False.
        pipeline (list[dict]): as for mmengine's ``BaseDataset``.
        metainfo (dict, optional): as for ``BaseDataset``.
        lazy_init (bool): as for ``BaseDataset``.
        filter_cfg, serialize_data: settings of ``BaseDataset`` that must keep their defaults.

    Raises:
        SettingsError: if the folder or the list is missing, unreadable, or holds no image, or a
            setting cannot work.
    """

    METAINFO: ClassVar[dict] = dict(dataset_type='ImageFolder')
    TAKES_KEYS = True

    def __init__(
        self,
        data_root: str = '',
        ann_file: Optional[str] = '',
        data_prefix: Union[str, Mapping[str, str]] = '',
        exclude: Patterns = None,
        filter_cfg: Optional[dict] = None,
        indices: Union[int, Sequence[int], None] = None,
        serialize_data: bool = True,
        max_refetch: int = 100,
        include: Patterns = None,
        ann_column: Optional[str] = None,
        storage_options: Optional[dict] = None,
        shard_names: bool = False,
        image_column: Optional[str] = None,
        name_column: Optional[str] = None,
        **kwargs,
    ):
        if filter_cfg:
            raise SettingsError(
                f'ImageFolder: filter_cfg={filter_cfg!r} filters by annotations, and images here '
                'have none: use ann_file, exclude or indices'
            )
        if not serialize_data:
            raise SettingsError('ImageFolder: serialize_data=False cannot work: remove it')
        if ann_column is not None and not ann_file:
            raise SettingsError(
                f'ImageFolder: ann_column={ann_column!r} is a column of a list, and there is none: '
                'set ann_file, or leave it out'
            )
        check_positive_integers('ImageFolder', max_refetch=max_refetch)
        self.selection, self.ann_column = Selection(include, exclude), ann_column
        self._source: Optional[Source] = None
        self._of_shards: dict[str, Any] = dict(
            options=storage_options,
            shard_names=shard_names,
            columns=dict(image_column=image_column, name_column=name_column),
        )
        data_root = os.fspath(data_root or '')
        super().__init__(
            data_root=data_root,
            ann_file=os.fspath(ann_file or ''),
            data_prefix=dict(img_path=_image_prefix(data_prefix)),
            indices=_checked_indices(indices),
            serialize_data=True,
            max_refetch=max_refetch,
            **kwargs,
        )

    def _join_prefix(self) -> None:
        """Joins the prefix without mmengine's file clients, which would take parts of a name for an
        address."""
        if self.ann_file and is_plain(self.data_root):
            self.ann_file = os.path.join(self.data_root, self.ann_file)
        prefix = self.data_prefix['img_path']
        self.image_root = os.path.join(self.data_root, prefix) if prefix else self.data_root

    def full_init(self) -> None:
        """Lists the images in the buffer from which mmengine's ``BaseDataset`` takes subsets."""
        if self._fully_initialized:
            return
        self.data_bytes, self.data_address = self._listed() if self.ann_file else self._found()
        self._fully_initialized = True
        if self._indices is not None:
            self.get_subset_(self._indices)

    def _get_serialized_subset(self, indices: Union[int, Sequence[int]]) -> FileIndex:
        """Returns the names of the first images, the last (a negative number), or those at some
        indices."""
        everything = range(len(self))
        try:
            if not isinstance(indices, int):
                places = [everything[place] for place in indices]
            elif abs(indices) > len(self):
                raise IndexError
            else:
                places = everything[:indices] if indices >= 0 else everything[indices:]
        except IndexError:
            raise SettingsError(
                f'ImageFolder: indices reach beyond the {len(self)} images of {self._described()}'
            ) from None
        starts = np.concatenate([[0], self.data_address[:-1]])
        names = [self.data_bytes[starts[i] : self.data_address[i]] for i in places]
        ends = np.cumsum([len(name) for name in names], dtype=np.int64)
        return FileIndex(np.concatenate(names) if names else self.data_bytes[:0], ends)

    def _described(self) -> str:
        return f'ann_file={self.ann_file!r}' if self.ann_file else f'data_root={self.image_root!r}'

    def _found(self) -> FileIndex:
        """Lists all images below the folder."""
        root = self.image_root
        if not is_plain(root):
            return self._stored(root)
        if not os.path.isdir(root):
            state = 'is not a folder' if os.path.exists(root) else 'does not exist'
            raise SettingsError(f'data_root={root!r} {state}. {_REMEDY}')
        try:
            index = image_index(root, self.selection.exclude, self.selection.include)
        except OSError as error:
            raise SettingsError(
                f'data_root={root!r} cannot be read: {error}. Mend its '
                'permissions, or choose another folder.'
            ) from error
        if len(index.ends):
            return index
        if holds_shards(root) and not (self.selection and len(image_index(root).ends)):
            return self._stored(root)
        selected = f' that {self.selection} takes' if self.selection else ''
        raise SettingsError(
            f'data_root={root!r} holds no image{selected}, at any depth, with one of the '
            f'extensions {", ".join(EXTENSIONS)}. {_REMEDY}'
        )

    def _stored(self, root: str, names: Optional[list[str]] = None) -> FileIndex:
        """Lists the images in shards, or at an address."""
        self._source = Source(root, self.selection, **self._of_shards, listed=names is not None)
        self.image_root = self._source.root
        return self._source.index() if names is None else self._source.chosen(names)

    def _listed(self) -> FileIndex:
        """Lists the images of the list, relative to the one of the two folders that has most of
        them."""
        names = [
            name
            for name in listed_images(self.ann_file, self.ann_column)
            if not self.selection or self.selection.takes(name.replace('\\', '/'))
        ]
        if not names:
            raise SettingsError(f'{self._described()}: {self.selection} leaves no image')
        found = self._in_folder(names) if is_plain(self.image_root) else None
        if found is not None:
            return packed(found)
        if not is_plain(self.image_root) or holds_shards(self.image_root):
            return self._stored(self.image_root, [name.replace('\\', '/') for name in names])
        raise self._not_there(names)

    def _in_folder(self, names: list[str]) -> Optional[list[str]]:
        """Returns the names as this system writes them, and sets the folder to which they belong.
        Returns None if none of the names that are checked is a file there."""
        some = names[:: -(-len(names) // _CHECKED)]
        ways = [(root, change) for root in (self.image_root, self.data_root) for change in _WRITTEN]
        there = [
            sum(os.path.exists(os.path.join(root, change(name))) for name in some)
            for root, change in ways
        ]
        if any(there):
            self.image_root, change = ways[there.index(max(there))]
            return [change(name) for name in names]
        return None

    def _not_there(self, names: list[str]) -> SettingsError:
        return SettingsError(
            f'{self._described()}: {names[0]!r} and others that it lists are neither below '
            f'{self.image_root!r} nor below {self.data_root!r}: set data_prefix to the folder to '
            'which the names are relative'
        )

    def get_data_info(self, idx: int) -> dict:
        """Returns the record of an image: ``img_path``, relative to the root, and
        ``sample_idx``."""
        self.full_init()
        idx = range(len(self))[idx]  # a negative index counts from the end
        start = self.data_address[idx - 1] if idx else 0
        entry = self.data_bytes[start : self.data_address[idx]].tobytes()
        if self._source is None:
            return dict(img_path=os.fsdecode(entry), sample_idx=idx)
        encoded, _, place = entry.partition(b'\0')
        name = os.fsdecode(encoded)
        return dict(img_path=name, sample_idx=idx, stored=self._source.image(name, place))

    def image_record(self, idx: int) -> dict:
        """Returns the record that a pipeline gets: ``name``, ``data_root``, ``img_path``, which
        joins both, ``sample_idx``, and ``stored`` for an image in a shard or at an address."""
        record = self.get_data_info(idx)
        name = record['img_path']
        record.update(
            name=name, data_root=self.image_root, img_path=os.path.join(self.image_root, name)
        )
        return record

    def get_cat_ids(self, idx: int) -> list[str]:
        """Returns the folder of the image as its class, for mmengine's ``ClassBalancedDataset``."""
        return [os.path.dirname(self.get_data_info(idx)['img_path'])]

    def __getitem__(self, key: Union[int, SampleKey]) -> dict:
        """Returns the sample of ``SampleKey(seed, epoch, index)``.

        A plain index is enough within a :class:`~plrc_plugin.datasets.KeyedDataset` and in test
        mode.

        Raises:
            SettingsError: for any other plain index, because the views would be the same in each
                epoch.
        """
        if isinstance(key, SampleKey):
            return self._sample(key, key.index)
        index = range(len(self))[key]
        around = current_key()
        if around is None and not self.test_mode:
            raise plain_index(self, index)
        return self._sample(around or SampleKey(0, 0, index), index)

    def look(self, index: int, epoch: int = 0, seed: int = 0) -> dict:
        """Returns the sample of an image in an epoch, for looking at it."""
        return self[SampleKey(seed, epoch, range(len(self))[index])]

    def _sample(self, key: SampleKey, index: int) -> dict:
        skipped = []
        while True:
            record = self.image_record(index)
            record.update(sample_key=key, skipped=skipped)
            try:
                return self.pipeline(record)
            except DecodingError as error:
                if self.test_mode:
                    raise
                skipped.append((error.path, error.reason))
            if len(skipped) > self.max_refetch:
                raise RuntimeError(
                    f'{len(skipped)} images in a row could not be decoded; the last '
                    f'was {skipped[-1][0]} ({skipped[-1][1]}). Is '
                    f'{self._described()} what you meant?'
                )
            index = int(stream(key, 'replacement', len(skipped)).integers(len(self)))


def _image_prefix(prefix: Union[str, Mapping[str, str], None]) -> str:
    """Returns the folder of the images from a ``data_prefix`` as mmengine, mmpretrain or mmdet
    write it."""
    if isinstance(prefix, Mapping):
        unknown = set(prefix) - {'img_path', 'img'}
        if unknown or len(prefix) > 1:
            raise SettingsError(
                f'ImageFolder: data_prefix={dict(prefix)!r} must have img_path only: nothing but '
                'images is read here'
            )
        prefix = next(iter(prefix.values()), '')
    if prefix is None:
        return ''
    if not isinstance(prefix, (str, os.PathLike)):
        raise SettingsError(f'ImageFolder: data_prefix must be a folder, got {prefix!r}')
    return os.fspath(prefix)


def _checked_indices(indices):
    whole = isinstance(indices, int) and not isinstance(indices, bool) and indices
    several = isinstance(indices, Sequence) and not isinstance(indices, str) and len(indices)
    if indices is None or whole:
        return indices
    if several and all(isinstance(i, (int, np.integer)) for i in indices):
        return list(indices)
    raise SettingsError(
        'ImageFolder: indices must be a number of images, not 0, or a list of places, got '
        f'{indices!r}'
    )
