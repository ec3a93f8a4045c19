"""Commands of ``python -m plrc_plugin``: a module each, whose ``main`` takes the arguments."""
