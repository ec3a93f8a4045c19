"""Unlabelled photographs: every image below a folder, in shards or at an address, or of a list."""

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
_CHECKED = 1000  # names of a list that are looked for before the run
_WRITTEN = (str, lambda name: name.replace('\\', '/'))  # as it is, or under Windows


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """All images below ``data_root``, flat or nested (ImageNet's layout, COCO's, one's own), or
    those that ``ann_file`` lists. Where the images are makes no difference: docs/data.md.

    Images are ordered by their path relative to the folder, listed ones as in their list. An image
    that cannot be decoded is replaced by another, drawn as a function of the sample's key, and
    reported in ``results['skipped']``, a list of (path, reason). A record holds the ``data_root``,
    the image's ``name``, its path relative to it, and ``img_path``, both joined. Of an image that
    is no file of its own, ``stored`` gives the content, and ``img_path`` is what its path would be
    in the folder that its shards stand for: that of ``photos.tar`` is ``photos``.

    Args:
        data_root (str): the folder; links are followed. Or shards, ``photos.tar``, ``.zip``,
            ``.parquet`` or ``.arrow``, a pattern such as ``shards/*.tar``, or an address of fsspec,
            ``s3://bucket/photos``: see :mod:`plrc_plugin.images.sources`.
        ann_file (str): list of the images to take, a path relative to ``data_root``: see
            :func:`~plrc_plugin.images.file_list.listed_images`. Names in it are relative to the
            folder of ``data_prefix`` or else to ``data_root``. An image that is listed twice is
            read twice. Of shards and addresses it is a path of its own, on this machine. Defaults
            to '', all images.
        ann_column (str, optional): column or key of the list that names the images. Defaults to
            the first that is called so.
        data_prefix (str | dict[str, str]): folder of the images, relative to ``data_root``, as such
            or as ``dict(img_path=...)``. Defaults to ''.
        exclude (str | Sequence[str], optional): patterns of file names that are no images to train
            on, such as ``'*_regions.png'`` for label maps beside the images. With a slash it is
            one of paths below the root, such as ``'night/*'``.
        include (str | Sequence[str], optional): patterns of which an image must match one.
        storage_options (dict, optional): of fsspec's file system, for an address.
        shard_names (bool): names of images begin with that of their shard, for shards that number
            theirs alike. Defaults to False.
        image_column, name_column (str, optional): of Parquet and Arrow. By default they are found.
        indices (int | Sequence[int], optional): the first images only, the last ones if negative,
            or those at these places.
        max_refetch (int): images tried in place of one that cannot be decoded. Defaults to 100.
        test_mode (bool): an index is enough, gives the same sample each time, and an image that
            cannot be decoded is an error. Defaults to False.
        pipeline (list[dict]), metainfo (dict, optional), lazy_init (bool): of mmengine's
            ``BaseDataset``.
        filter_cfg, serialize_data: of ``BaseDataset`` too: only their defaults can be used.

    Raises:
        SettingsError: if the folder is missing, unreadable, or holds no image, the list likewise,
            or a setting cannot work.
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
            raise SettingsError('ImageFolder: serialize_data=False cannot be: remove it')
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
        """Without mmengine's file clients, which would take parts of a name for an address."""
        if self.ann_file and is_plain(self.data_root):
            self.ann_file = os.path.join(self.data_root, self.ann_file)
        prefix = self.data_prefix['img_path']
        self.image_root = os.path.join(self.data_root, prefix) if prefix else self.data_root

    def full_init(self) -> None:
        """Lists the images, into the buffer from which mmengine's ``BaseDataset`` takes subsets."""
        if self._fully_initialized:
            return
        self.data_bytes, self.data_address = self._listed() if self.ann_file else self._found()
        self._fully_initialized = True
        if self._indices is not None:
            self.get_subset_(self._indices)

    def _get_serialized_subset(self, indices: Union[int, Sequence[int]]) -> FileIndex:
        """Names of the first, of the last (a negative number), or of the images at some places."""
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
        """All images below the folder."""
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
        """The images in shards, or at an address."""
        self._source = Source(root, self.selection, **self._of_shards, listed=names is not None)
        self.image_root = self._source.root
        return self._source.index() if names is None else self._source.chosen(names)

    def _listed(self) -> FileIndex:
        """The images of the list, relative to that of the two folders that has most of them."""
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
        """The names as they are written on this system, None if none of some is a file; sets the
        folder to which they belong."""
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
        """The record of an image: ``img_path``, relative to the root, and ``sample_idx``."""
        self.full_init()
        idx = range(len(self))[idx]  # negative ones count from the end, others too large raise
        start = self.data_address[idx - 1] if idx else 0
        entry = self.data_bytes[start : self.data_address[idx]].tobytes()
        if self._source is None:
            return dict(img_path=os.fsdecode(entry), sample_idx=idx)
        encoded, _, place = entry.partition(b'\0')
        name = os.fsdecode(encoded)
        return dict(img_path=name, sample_idx=idx, stored=self._source.image(name, place))

    def image_record(self, idx: int) -> dict:
        """What a pipeline gets of an image: ``name``, ``data_root``, ``img_path`` joined of both,
        ``sample_idx``, and ``stored`` of one that is no file of its own."""
        record = self.get_data_info(idx)
        name = record['img_path']
        record.update(
            name=name, data_root=self.image_root, img_path=os.path.join(self.image_root, name)
        )
        return record

    def get_cat_ids(self, idx: int) -> list[str]:
        """What mmengine's ``ClassBalancedDataset`` balances: the folder of the image."""
        return [os.path.dirname(self.get_data_info(idx)['img_path'])]

    def __getitem__(self, key: Union[int, SampleKey]) -> dict:
        """A sample, of ``SampleKey(seed, epoch, index)``.

        An index is enough within a :class:`~plrc_plugin.datasets.KeyedDataset` and in test mode.

        Raises:
            SettingsError: for an index else: whoever hands it out shows the same views each epoch.
        """
        if isinstance(key, SampleKey):
            return self._sample(key, key.index)
        index = range(len(self))[key]
        around = current_key()
        if around is None and not self.test_mode:
            raise plain_index(self, index)
        return self._sample(around or SampleKey(0, 0, index), index)

    def look(self, index: int, epoch: int = 0, seed: int = 0) -> dict:
        """The sample of an image in an epoch, to look at."""
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
    """The folder of the images in a ``data_prefix`` as mmengine, mmpretrain or mmdet write it."""
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
