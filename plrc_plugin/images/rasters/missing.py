"""Libraries that not everybody needs."""

import importlib
from types import ModuleType


def needs(module: str, extra: str, what: str) -> ModuleType:
    """Imports a library of an extra.

    Raises:
        ImportError: one line that says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{what} needs {module}: pip install 'plrc_plugin[{extra}]' ({error})"
        ) from error
