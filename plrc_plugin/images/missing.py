"""Libraries that not everybody needs."""

from importlib import import_module
from types import ModuleType

from plrc_plugin.errors import SettingsError


class MissingLibraryError(SettingsError, ImportError):
    """A library of an extra that is not installed; the message is the line that installs it."""


def needs(module: str, extra: str, what: str) -> ModuleType:
    """Imports a library of an extra.

    Raises:
        MissingLibraryError: one line that says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingLibraryError(
            f"{what} needs {module.partition('.')[0]}: pip install 'plrc_plugin[{extra}]' ({error})"
        ) from error
