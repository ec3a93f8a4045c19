"""PLRC in the study without L_a, L_c at the weight that it has beside L_a: .35, not .7.

OMP_NUM_THREADS=1 mim train plrc_plugin studies/photographs/configs/study_plrc_half.py
"""

_base_ = './study_plrc.py'

model = dict(warmup_epochs=13)
