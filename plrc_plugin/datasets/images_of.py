"""Takes the images of a data set of mmdet, mmseg or mmpretrain, or of any other mmengine data
set."""

import os
from typing import Any

from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.datasets.pipelines import without_pipelines
from plrc_plugin.errors import SettingsError
from plrc_plugin.images.file_index import FileIndex, packed
from plrc_plugin.images.sources import is_plain
from plrc_plugin.registry import DATASETS


@DATASETS.register_module()
class ImagesOf(ImageFolder):
    """Takes the images of another data set in its order, and nothing else.

    Args:
        source (dict): config of the data set, such as ``dict(type='mmdet.CocoDataset', ...)``. Its
            filters, prefixes and wrappers are used; its pipeline is not.
        **kwargs: arguments of :class:`ImageFolder` except ``data_root``, ``data_prefix`` and
            ``ann_file``.

    Raises:
        SettingsError: if it cannot be built, or names no image by ``img_path``.
    """

    def __init__(self, source: dict, **kwargs):
        given = {'data_root', 'data_prefix', 'ann_file'} & kwargs.keys()
        if given:
            raise SettingsError(
                f'ImagesOf: {", ".join(sorted(given))} belongs to the data set: move it to source'
            )
        if not isinstance(source, dict) or 'type' not in source:
            raise SettingsError(
                f'ImagesOf: source must be the config of a data set, got {source!r}'
            )
        self.source = source
        super().__init__(**kwargs)

    def _described(self) -> str:
        return f'source={self.source["type"]!r}'

    def _found(self) -> FileIndex:
        names = [name for name in self._names() if not self.selection or self.selection.takes(name)]
        if not names:
            raise SettingsError(f'ImagesOf: {self._described()} names no image to train on')
        root = self.image_root = _common_folder(names)
        relative = [name[len(root) :].lstrip('/') for name in names]
        if not is_plain(root):
            return self._stored(root, relative)
        found = self._in_folder(relative)
        if found is None:
            raise self._not_there(relative)
        return packed(found)

    def _names(self) -> list[str]:
        try:
            data: Any = DATASETS.build(without_pipelines(self.source))
            data.full_init()
            return [str(data.get_data_info(i)['img_path']) for i in range(len(data))]
        except SettingsError:
            raise
        except Exception as error:  # its library may raise anything for its settings
            reason = ' '.join(f'{type(error).__name__}: {error}'.split())
            raise SettingsError(
                f'ImagesOf: {self._described()} cannot be used ({reason}): it must be a data set '
                'of mmengine whose records have img_path'
            ) from error


def _common_folder(names: list[str]) -> str:
    """Returns the deepest folder that holds all paths; it takes addresses too."""
    scheme, mark, _ = names[0].partition('://')
    folders = {name[len(scheme + mark) if mark else 0 :].rpartition('/')[0] for name in names}
    try:
        return (scheme + mark if mark else '') + os.path.commonpath(folders)
    except ValueError:  # a mixture of absolute and relative paths
        return ''
