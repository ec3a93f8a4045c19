"""The data set that needs no data: scenes that are generated if they are missing."""

import os

from mmengine.dist import barrier, is_main_process

from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.datasets.scenes.writing import make_scenes
from plrc_plugin.registry import DATASETS


@DATASETS.register_module()
class GeneratedScenes(ImageFolder):
    """Training images of :func:`~plrc_plugin.datasets.scenes.make_scenes`, made when needed.

    Args:
        data_root (str): folder of the scenes. It is made if missing, and kept if it holds these
            scenes.
        num_train (int): number of training scenes. Defaults to 1000.
        num_val (int): number of validation scenes. Defaults to 100.
        seed (int): seed of the scenes. Defaults to 0.
        **kwargs: arguments of :class:`ImageFolder`.

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
