"""The embedded default: scenes that are generated where they are missing."""

import os

from mmengine.dist import barrier, is_main_process

from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.datasets.scenes.writing import make_scenes
from plrc_plugin.registry import DATASETS


@DATASETS.register_module()
class GeneratedScenes(ImageFolder):
    """Training images of :func:`~plrc_plugin.datasets.scenes.make_scenes`, made when needed.

    Args:
        data_root (str): folder of the scenes; made if missing, kept if it holds these scenes.
        num_train (int): training scenes. Defaults to 1000.
        num_val (int): validation scenes. Defaults to 100.
        seed (int): defaults to 0.
        **kwargs: of :class:`ImageFolder`.

    Raises:
        SettingsError: if the folder holds something else.
    """

    def __init__(
        self, data_root: str, num_train: int = 1000, num_val: int = 100, seed: int = 0, **kwargs
    ):
        if is_main_process():
            make_scenes(data_root, num_train, num_val, seed)
        barrier()
        super().__init__(data_root=os.path.join(data_root, 'train'), **kwargs)
