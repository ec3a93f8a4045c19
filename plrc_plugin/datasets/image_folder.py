"""Unlabelled photographs: every image below a folder."""
import os
from fnmatch import fnmatch
from typing import Iterator, List, Optional, Union

from mmengine.dataset import BaseDataset

from plrc_plugin.errors import SettingsError
from plrc_plugin.registry import DATASETS
from plrc_plugin.views.decoding import EXTENSIONS, DecodingError
from plrc_plugin.views.randomness import SampleKey, stream

_REMEDY = ('Set it with --cfg-options train_dataloader.dataset.data_root=<folder> or, in the '
           'configs shipped here, with the environment variable that their head names.')


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
        **kwargs: of mmengine's ``BaseDataset``.

    Raises:
        SettingsError: if the folder is missing, unreadable, or holds no image.
    """

    METAINFO = dict(dataset_type='ImageFolder')
    MAX_REPLACEMENTS = 100

    def __init__(self, data_root: str, exclude: Optional[str] = None, **kwargs):
        self.exclude = exclude
        super().__init__(data_root=os.fspath(data_root), **kwargs)

    def load_data_list(self) -> List[dict]:
        root = self.data_root
        if not os.path.isdir(root):
            state = 'is not a folder' if os.path.exists(root) else 'does not exist'
            raise SettingsError(f'data_root={root!r} {state}. {_REMEDY}')
        try:
            paths = sorted(path for path in _image_paths(root)
                           if not self.exclude or not fnmatch(os.path.basename(path), self.exclude))
        except OSError as error:
            raise SettingsError(f'data_root={root!r} cannot be read: {error}. Mend its '
                                'permissions, or choose another folder.') from error
        if not paths:
            raise SettingsError(f'data_root={root!r} holds no image, at any depth, with one of the '
                                f'extensions {", ".join(EXTENSIONS)}. {_REMEDY}')
        return [dict(img_path=path) for path in paths]

    def __getitem__(self, key: Union[int, SampleKey]) -> dict:
        """A sample, of ``SampleKey(seed, epoch, index)`` or, for looking, of an index."""
        if not isinstance(key, SampleKey):
            key = SampleKey(0, 0, int(key))
        skipped, index = [], key.index
        while True:
            record = self.get_data_info(index)
            record.update(name=record['img_path'], data_root=self.data_root,
                          sample_key=key, skipped=skipped)
            record['img_path'] = os.path.join(self.data_root, record['name'])
            try:
                return self.pipeline(record)
            except DecodingError as error:
                skipped.append((error.path, error.reason))
            if len(skipped) > self.MAX_REPLACEMENTS:
                raise RuntimeError(f'{len(skipped)} images in a row could not be decoded; the last '
                                   f'was {skipped[-1][0]} ({skipped[-1][1]}). Is '
                                   f'data_root={self.data_root!r} what you meant?')
            index = int(stream(key, 'replacement', len(skipped)).integers(len(self)))


def _image_paths(root: str) -> Iterator[str]:
    """Paths, relative to the root, of its images. A folder that is linked into itself is entered
    once."""
    seen = {os.path.realpath(root)}
    folders = ['']
    while folders:
        folder = folders.pop()
        with os.scandir(os.path.join(root, folder)) as entries:
            for entry in entries:
                path = os.path.join(folder, entry.name)
                if entry.name.lower().endswith(EXTENSIONS):
                    yield path
                elif entry.is_dir():
                    if entry.is_symlink():
                        target = os.path.realpath(entry.path)
                        if target in seen:
                            continue
                        seen.add(target)
                    folders.append(path)
