"""Look at images and views before a run: `mim run plrc_plugin inspect`, docs/depth.md.

It is `python -m plrc_plugin inspect`, in a folder of its own: beside the other tools, its name
would stand in the way of Python's module `inspect`.
"""

import sys

sys.path[:] = [path for path in sys.path if path != __file__.rpartition('/')[0]]

from plrc_plugin.commands.inspect import main  # noqa: E402

if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
