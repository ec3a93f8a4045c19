"""Sources of images beside folders: tar, zip, Parquet, Arrow, and addresses of fsspec."""

from plrc_plugin.images.sources.index import Source
from plrc_plugin.images.sources.places import holds_shards, is_plain

__all__ = ['Source', 'holds_shards', 'is_plain']
