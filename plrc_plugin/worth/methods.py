"""The methods that continue the start: a config of pre-training for each."""

from collections.abc import Sequence
from pathlib import Path

from plrc_plugin.errors import SettingsError

START = 'start'
METHODS = {
    'plrc': 'plrc_photos.py',
    'mocov2': 'mocov2_photos.py',
    'region': 'regioncontrast_photos.py',
}
TITLES = {
    START: 'the start as it is',
    'plrc': 'continued by PLRC',
    'mocov2': 'continued by MoCo v2',
    'region': 'continued by region-level contrast',
}


def chosen_methods(entries: Sequence[str]) -> dict[str, str]:
    """Returns configs by name, for entries that are names of :data:`METHODS` or NAME=CONFIG. The
    start always takes part and may be named too.

    Raises:
        SettingsError: if there is no such method, no such file, or a name occurs twice.
    """
    found: dict[str, str] = {}
    for entry in entries:
        name, _, config = entry.partition('=')
        if name == START and not config:
            continue
        if config and not Path(config).is_file():
            raise SettingsError(f'--methods: there is no config {config}')
        if not config and name not in METHODS:
            raise SettingsError(
                f'--methods: there is no {name!r}; there are {START}, {", ".join(METHODS)}, and '
                'NAME=CONFIG for a config of your own'
            )
        if name in found or name == START:
            raise SettingsError(f'--methods: two methods are called {name}')
        found[name] = str(Path(config).resolve()) if config else METHODS[name]
    return found


def title(name: str) -> str:
    """Returns the name of a method in tables."""
    return TITLES.get(name, f'continued by {name}')
