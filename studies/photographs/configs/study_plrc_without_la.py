"""PLRC without point affinity distillation in the study: the setting of Fig. 5.

OMP_NUM_THREADS=1 mim train plrc_plugin studies/photographs/configs/study_plrc_without_la.py
"""

_base_ = './study_plrc.py'

model = dict(alpha=1.0)
