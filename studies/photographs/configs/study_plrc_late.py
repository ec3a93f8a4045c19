"""PLRC in the study with L_a from epoch 5 in place of 3.

OMP_NUM_THREADS=1 mim train plrc_plugin studies/photographs/configs/study_plrc_late.py
"""

_base_ = './_base_/study_variation.py'

model = dict(warmup_epochs=4)
