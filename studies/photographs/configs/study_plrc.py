"""PLRC in the study: all terms, L_a from 15% of the run (the paper's share: 30 of 200 epochs).

OMP_NUM_THREADS=1 mim train plrc_plugin studies/photographs/configs/study_plrc.py

Cost: 20 minutes of one core.
"""

_base_ = './_base_/study.py'

model = dict(type='plrc_plugin.PLRC', alpha=0.5, beta=0.7, warmup_epochs=2)
