"""Takes parts of large images as the images to train on."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Optional, Union

import numpy as np
from mmengine.dataset import Compose

from plrc_plugin.datasets.keys import KeyedDataset, current_key, plain_index, takes_keys
from plrc_plugin.errors import SettingsError, check_positive_integers
from plrc_plugin.images.decoding import DecodingError
from plrc_plugin.images.survey import size_of
from plrc_plugin.randomness import SampleKey, stream
from plrc_plugin.registry import DATASETS

_THREADS = 8  # threads that read headers


@DATASETS.register_module()
class ImageWindows:
    """Takes square parts of the images of a data set, so that crops come from all of their area.

    The number of an image's parts is about its width times its height over the square of ``side``,
    and at least one. So large images are seen in proportion to their area. Each part lies at
    another place in every epoch: its upper left corner is uniform in a field of its own, and the
    fields of all parts together cover the image. From a tiled file only the tiles under a part are
    read.

    The pipeline gets the part as ``results['area']``, (left, top, width, height) in pixels of the
    whole image, and its number as ``results['part']``. Grid regions, geometry and ``size`` refer to
    the part.

    Args:
        dataset (dict): the images, such as an ``ImageFolder``, without a pipeline of its own.
        pipeline (list[dict]): the pipeline of the parts, such as ``TwoViews`` and
            ``SampleRegionPoints``.
        side (int): side of a part in pixels. A smaller image is one part. Defaults to 1024.
        max_refetch (int): how many parts are tried in place of one that cannot be decoded. Defaults
            to 100.

    Raises:
        SettingsError: if a setting cannot work, or the data set gives no paths.
    """

    METAINFO: ClassVar[dict] = dict(dataset_type='ImageWindows')
    TAKES_KEYS = True

    def __init__(
        self,
        dataset: Union[dict, Any],
        pipeline: Sequence[dict] = (),
        side: int = 1024,
        max_refetch: int = 100,
    ):
        check_positive_integers('ImageWindows', side=side, max_refetch=max_refetch)
        if isinstance(dataset, dict) and dataset.get('pipeline'):
            raise SettingsError(
                'ImageWindows: its data set has a pipeline, which would see whole images: move it '
                'to ImageWindows.pipeline'
            )
        built = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.dataset = built if takes_keys(built) else KeyedDataset(built)
        self.pipeline, self.side, self.max_refetch = Compose(pipeline), side, max_refetch
        self._ends: Optional[np.ndarray] = None
        self.sizes = np.zeros((0, 2), dtype=np.int64)

    @property
    def metainfo(self) -> dict:
        return dict(self.METAINFO)

    def full_init(self) -> None:
        """Reads the sizes of all images, from their headers."""
        if self._ends is not None:
            return
        if hasattr(self.dataset, 'full_init'):
            self.dataset.full_init()
        with ThreadPoolExecutor(_THREADS) as pool:
            sizes = list(pool.map(self._size, range(len(self.dataset))))
        self.sizes = np.array(sizes, dtype=np.int64).reshape(-1, 2)
        across, down = self._grid(self.sizes[:, 0]), self._grid(self.sizes[:, 1])
        self._ends = np.cumsum(across * down)

    def _size(self, image: int) -> tuple[int, int]:
        try:
            return size_of(self._record(SampleKey(0, 0, image)))
        except DecodingError:
            return 1, 1  # one part; when it is read, it will be replaced and reported

    def _grid(self, lengths: np.ndarray) -> np.ndarray:
        return np.maximum(1, np.rint(lengths / self.side)).astype(np.int64)

    def _record(self, key: SampleKey) -> dict:
        record = self.dataset[key]
        if not isinstance(record, dict) or 'img_path' not in record:
            raise SettingsError(
                f'ImageWindows: {type(self.dataset).__name__} gives no img_path: put it around a '
                'data set of files, such as ImageFolder'
            )
        return record

    def __len__(self) -> int:
        self.full_init()
        return int(self._ends[-1]) if len(self._ends) else 0

    def locate(self, key: SampleKey, index: int) -> tuple[int, int, tuple[int, int, int, int]]:
        """Returns the image of a part, its number in that image, and where it lies in this
        epoch."""
        self.full_init()
        image = int(np.searchsorted(self._ends, index, side='right'))
        part = index - int(self._ends[image - 1] if image else 0)
        width, height = self.sizes[image].tolist()
        across, down = (int(self._grid(np.array(length))) for length in (width, height))
        wide, high = min(self.side, width), min(self.side, height)
        x, y = stream(key, 'area').random(2).tolist()
        left = math.floor((part % across + x) * (width - wide + 1) / across)
        top = math.floor((part // across + y) * (height - high + 1) / down)
        return image, part, (left, top, wide, high)

    def __getitem__(self, key: Union[int, SampleKey]) -> dict:
        """Returns the sample of ``SampleKey(seed, epoch, index)``."""
        if not isinstance(key, SampleKey):
            index = range(len(self))[key]
            around = current_key()
            if around is None:
                raise plain_index(self, index)
            return self._sample(around, index)
        return self._sample(key, key.index)

    def look(self, index: int, epoch: int = 0, seed: int = 0) -> dict:
        """Returns the sample of a part in an epoch, for looking at it."""
        return self[SampleKey(seed, epoch, range(len(self))[index])]

    def _sample(self, key: SampleKey, index: int) -> dict:
        skipped: list[tuple[str, str]] = []
        while len(skipped) <= self.max_refetch:
            image, part, area = self.locate(key, index)
            record = self._record(key._replace(index=image))
            record.update(area=area, part=part, sample_key=key, skipped=skipped)
            try:
                return self.pipeline(record)
            except DecodingError as error:
                skipped.append((error.path, error.reason))
            index = int(stream(key, 'replacement', len(skipped)).integers(len(self)))
        raise RuntimeError(
            f'{len(skipped)} parts in a row could not be decoded; the last was {skipped[-1][0]} '
            f'({skipped[-1][1]})'
        )
