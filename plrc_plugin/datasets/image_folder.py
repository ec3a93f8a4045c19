"""Unlabelled photographs: every image below a folder."""

import os
from typing import ClassVar, Optional, Union

from mmengine.dataset import BaseDataset

from plrc_plugin.errors import SettingsError
from plrc_plugin.images.decoding import EXTENSIONS, DecodingError
from plrc_plugin.images.file_index import image_index
from plrc_plugin.randomness import SampleKey, stream
from plrc_plugin.registry import DATASETS

_REMEDY = (
    'Set it with --cfg-options train_dataloader.dataset.data_root=<folder> or, in the '
    'configs shipped here, with the environment variable that their head names.'
)


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """All images below ``data_root``, flat or nested (ImageNet's layout, COCO's, one's own).

    Images are ordered by their path relative to the root. An image that cannot be decoded is
    replaced by another, drawn as a function of the sample's key, and reported in
    ``results['skipped']``, a list of (path, reason). A record holds the ``data_root``, the image's
    ``name``, its path relative to the root, and ``img_path``, both joined.

    Args:
        data_root (str): the folder; links are followed.
        pipeline (list[dict]): transforms.
        exclude (str, optional): pattern of file names that are no images to train on, such as
            ``'*_regions.png'`` for label maps beside the images.
        **kwargs: of mmengine's ``BaseDataset``, without ``serialize_data``: names always are.

    Raises:
        SettingsError: if the folder is missing, unreadable, or holds no image.
    """

    METAINFO: ClassVar[dict] = dict(dataset_type='ImageFolder')
    MAX_REPLACEMENTS = 100

    def __init__(self, data_root: str, exclude: Optional[str] = None, **kwargs):
        self.exclude = exclude
        super().__init__(data_root=os.fspath(data_root), serialize_data=True, **kwargs)

    def full_init(self) -> None:
        """Lists the images, into the buffer from which mmengine's ``BaseDataset`` takes subsets."""
        if self._fully_initialized:
            return
        root = self.data_root
        if not os.path.isdir(root):
            state = 'is not a folder' if os.path.exists(root) else 'does not exist'
            raise SettingsError(f'data_root={root!r} {state}. {_REMEDY}')
        try:
            self.data_bytes, self.data_address = image_index(root, self.exclude)
        except OSError as error:
            raise SettingsError(
                f'data_root={root!r} cannot be read: {error}. Mend its '
                'permissions, or choose another folder.'
            ) from error
        if not len(self.data_address):
            raise SettingsError(
                f'data_root={root!r} holds no image, at any depth, with one of the '
                f'extensions {", ".join(EXTENSIONS)}. {_REMEDY}'
            )
        self._fully_initialized = True
        if self._indices is not None:
            self.get_subset_(self._indices)

    def get_data_info(self, idx: int) -> dict:
        """The record of an image: ``img_path``, relative to the root, and ``sample_idx``."""
        self.full_init()
        idx = range(len(self))[idx]  # negative ones count from the end, others too large raise
        start = self.data_address[idx - 1] if idx else 0
        name = self.data_bytes[start : self.data_address[idx]].tobytes()
        return dict(img_path=os.fsdecode(name), sample_idx=idx)

    def __getitem__(self, key: Union[int, SampleKey]) -> dict:
        """A sample, of ``SampleKey(seed, epoch, index)`` or, for looking, of an index."""
        if not isinstance(key, SampleKey):
            key = SampleKey(0, 0, int(key))
        skipped, index = [], key.index
        while True:
            record = self.get_data_info(index)
            record.update(
                name=record['img_path'], data_root=self.data_root, sample_key=key, skipped=skipped
            )
            record['img_path'] = os.path.join(self.data_root, record['name'])
            try:
                return self.pipeline(record)
            except DecodingError as error:
                skipped.append((error.path, error.reason))
            if len(skipped) > self.MAX_REPLACEMENTS:
                raise RuntimeError(
                    f'{len(skipped)} images in a row could not be decoded; the last '
                    f'was {skipped[-1][0]} ({skipped[-1][1]}). Is '
                    f'data_root={self.data_root!r} what you meant?'
                )
            index = int(stream(key, 'replacement', len(skipped)).integers(len(self)))
