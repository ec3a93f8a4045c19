"""PLRC in the study with .7 on the image loss, as in the authors' code, in place of Eq. 6's .3.

OMP_NUM_THREADS=1 mim train plrc_plugin studies/photographs/configs/study_plrc_beta3.py
"""

_base_ = './_base_/study_variation.py'

model = dict(beta=0.3)
