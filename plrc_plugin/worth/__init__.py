"""Is pre-training worth it? Compares given weights with what methods make of them, on labels.

``labels.py`` and ``splits.py`` read the labelled set, ``methods.py`` and ``heads.py`` say what is
trained, ``planning.py`` divides the budget, ``parts.py`` does one part after the other,
``comparison.py`` draws the conclusions that the numbers allow, and ``page.py`` writes the page.
"""
