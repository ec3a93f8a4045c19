"""Pre-training of detection backbones by Point-Level Region Contrast, for OpenMMLab.

Importing the package registers everything under the scope ``plrc_plugin``.
"""

import sys

from plrc_plugin.terminal import name_the_user
from plrc_plugin.version import __version__

name_the_user()  # before torchvision, which asks for it

try:
    from plrc_plugin import (  # noqa: F401
        checkpoints,
        datasets,
        engine,
        evaluation,
        images,
        losses,
        models,
        regions,
        transfer,
        views,
    )
    from plrc_plugin.commands.pretrain import pretrain
except ImportError as error:
    # `python -m plrc_plugin` goes on without mmengine, so that the doctor can say what is missing.
    if sys.argv[0] != '-m' and error.name == 'mmengine':
        raise ImportError(
            'plrc_plugin needs mmengine, which comes in two distributions; only one of them may be '
            "installed: pip install 'plrc_plugin[onedl]' for the maintained one, or "
            "'plrc_plugin[openmmlab]' for OpenMMLab's own"
        ) from error
    if sys.argv[0] != '-m':
        raise


__all__ = ['__version__', 'pretrain']
