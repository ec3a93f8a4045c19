"""Generated scenes with their truth: a data set that needs no download."""

from plrc_plugin.datasets.scenes.composition import Instance, Scene, compose_scene
from plrc_plugin.datasets.scenes.cutouts import CATEGORIES
from plrc_plugin.datasets.scenes.dataset import GeneratedScenes
from plrc_plugin.datasets.scenes.writing import encode_rle, make_scenes

__all__ = [
    'CATEGORIES',
    'GeneratedScenes',
    'Instance',
    'Scene',
    'compose_scene',
    'encode_rle',
    'make_scenes',
]
