"""Commands of ``python -m plrc_plugin``. Each is a module whose ``main`` takes the arguments."""
