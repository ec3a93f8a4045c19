"""What a pipeline decodes: a file, or the content of an image that is no file of its own."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Union


class StoredImage(ABC):
    """An image that lies in a shard, or at an address.

    ``str()`` of it says where, for messages.
    """

    @abstractmethod
    def read(self) -> bytes:
        """Its content.

        Raises:
            DecodingError: if this image cannot be read.
            SettingsError: if nothing can be read there, or the shard has changed.
        """


def image_source(record: Mapping) -> tuple[Union[str, bytes], str]:
    """What to decode of a record of :class:`~plrc_plugin.datasets.ImageFolder`, and its name.

    Of a record with ``stored``, a :class:`StoredImage`, this is the content, otherwise the path
    ``img_path``.

    Raises:
        DecodingError: if the image cannot be read.
        SettingsError: if nothing can be read where it lies.
    """
    stored = record.get('stored')
    if stored is None:
        return record['img_path'], record['img_path']
    return stored.read(), str(stored)
