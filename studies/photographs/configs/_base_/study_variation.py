# One setting of the study's PLRC changed: its first 6 of 13 epochs, 29,952 images, with the
# learning rates that the whole run has there.
_base_ = '../study_plrc.py'

param_scheduler = [dict(type='CosineAnnealingLR', T_max=13, eta_min=0, by_epoch=True)]
train_cfg = dict(max_epochs=6)
