"""What a pipeline decodes: a file, or the content of an image in a shard or at an address."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Union


class StoredImage(ABC):
    """An image that lies in a shard, or at an address.

    ``str()`` says where it lies, for messages.
    """

    @abstractmethod
    def read(self) -> bytes:
        """Reads its content.

        Raises:
            DecodingError: if this image cannot be read.
            SettingsError: if nothing can be read there, or the shard has changed.
        """


def image_source(record: Mapping) -> tuple[Union[str, bytes], str]:
    """Returns what to decode for a record of :class:`~plrc_plugin.datasets.ImageFolder`, and its
    name.

    If the record has ``stored``, a :class:`StoredImage`, this is its content, and otherwise the
    path ``img_path``.

    Raises:
        DecodingError: if the image cannot be read.
        SettingsError: if nothing can be read where it lies.
    """
    stored = record.get('stored')
    if stored is None:
        return record['img_path'], record['img_path']
    return stored.read(), str(stored)
