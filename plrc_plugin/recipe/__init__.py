"""The recipe of a run: what depends on the scale of the data, computed from it.

``rules.py`` has the rules, ``facts.py`` what they start from, ``resolving.py`` puts their values in
place of ``'auto'``, ``misfits.py`` names settings that do not fit the data. docs/recipe.md says on
what each rule rests.
"""

from plrc_plugin.recipe.resolving import Recipe, resolve
from plrc_plugin.recipe.rules import Facts

__all__ = ['Facts', 'Recipe', 'resolve']
