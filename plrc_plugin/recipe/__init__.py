"""The recipe of a run: computes the settings that depend on the scale of the data.

``rules.py`` has the rules, and ``facts.py`` the facts that they start from. ``resolving.py`` puts
their values in place of ``'auto'``. ``misfits.py`` names settings that do not fit the data.
docs/recipe.md gives the evidence for each rule.
"""

from plrc_plugin.recipe.resolving import Recipe, resolve
from plrc_plugin.recipe.rules import Facts

__all__ = ['Facts', 'Recipe', 'resolve']
