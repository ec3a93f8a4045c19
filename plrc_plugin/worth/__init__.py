"""Is pre-training worth it? A start and what methods make of it, compared on labels.

``labels.py`` and ``splits.py`` read the labelled set, ``methods.py`` and ``heads.py`` say what is
trained, ``planning.py`` divides the budget, ``parts.py`` does one part after the other,
``comparison.py`` says what the numbers allow to say and ``page.py`` writes it down.
"""
