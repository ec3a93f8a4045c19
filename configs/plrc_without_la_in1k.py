"""PLRC without point affinity distillation: L = beta L_c + (1 - beta) L_m, the setting of Fig. 5.

No row of Tables 1 and 2; with 100 epochs Fig. 5 has VOC AP 56.6 for P = 4.
Cost: that of plrc_in1k.

    export PLRC_DATA_ROOT=/path/to/imagenet/train
    mim train plrc_plugin configs/plrc_without_la_in1k.py --launcher pytorch --gpus 8
"""

_base_ = './plrc_in1k.py'

model = dict(alpha=1.0)
