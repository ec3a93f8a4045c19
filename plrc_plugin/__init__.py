"""Pre-training of detection backbones by Point-Level Region Contrast, for OpenMMLab.

Importing the package registers everything under the scope ``plrc_plugin``.
"""
try:
    import mmengine  # noqa: F401
except ImportError as error:
    raise ImportError(
        'plrc_plugin needs mmengine, which comes in two distributions of which only one may be '
        "installed: pip install 'plrc_plugin[onedl]' for the maintained one, or "
        "'plrc_plugin[openmmlab]' for OpenMMLab's own") from error

from . import (datasets, engine, evaluation, hooks, losses, models, regions,  # noqa: F401
               transfer, views)
from .version import __version__

__all__ = ['__version__']
