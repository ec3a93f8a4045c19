"""``python -m plrc_plugin COMMAND ...`` runs ``main(arguments)`` of ``commands/COMMAND.py``.

A new file in that folder is a new command; there is no list of them.
"""

import importlib
import pkgutil
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Runs a command and returns its exit code, or 2 if the first argument names no command."""
    folder = Path(__file__).parent / 'commands'
    names = sorted(module.name for module in pkgutil.iter_modules([str(folder)]))
    if not arguments or arguments[0] not in names:
        print(f'usage: python -m plrc_plugin {{{",".join(names)}}} ...', file=sys.stderr)
        return 2
    module = importlib.import_module(f'plrc_plugin.commands.{arguments[0]}')
    return module.main(arguments[1:]) or 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
