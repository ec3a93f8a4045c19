"""Child registries of mmengine's, scope ``plrc_plugin``.

A config reaches them from any ``default_scope`` as ``type='plrc_plugin.<Name>'`` once
``custom_imports = dict(imports=['plrc_plugin'])`` has imported the package.
"""

from mmengine import registry
from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

SCOPE = 'plrc_plugin'


def _child(parent: Registry) -> Registry:
    return Registry(parent.name, parent=parent, scope=SCOPE)


RUNNERS = _child(registry.RUNNERS)
OPTIM_WRAPPERS = _child(registry.OPTIM_WRAPPERS)
OPTIM_WRAPPER_CONSTRUCTORS = _child(registry.OPTIM_WRAPPER_CONSTRUCTORS)
MODELS = _child(MMENGINE_MODELS)
DATASETS = _child(MMENGINE_DATASETS)
TRANSFORMS = _child(MMENGINE_TRANSFORMS)
DATA_SAMPLERS = _child(MMENGINE_DATA_SAMPLERS)
FUNCTIONS = _child(MMENGINE_FUNCTIONS)
HOOKS = _child(MMENGINE_HOOKS)
LOOPS = _child(MMENGINE_LOOPS)
METRICS = _child(MMENGINE_METRICS)

# mmengine has no counterpart of these registries: each is a root of its own.
REGIONS = Registry('region source', scope=SCOPE)
AUGMENTATIONS = Registry('augmentation step', scope=SCOPE)  # see views/photometric.py
STRATEGIES = Registry('distillation strategy', scope=SCOPE)  # functions, see models/distillation.py
EXPORTS = Registry('export target', scope=SCOPE)  # functions, see checkpoints/export.py
MASK_LAYOUTS = Registry('layout of masked images', scope=SCOPE)  # see datasets/masked_images.py

# mmengine searches the default scope in every registry and warns where it has no child.
_CHILDREN = [
    _child(parent)
    for parent in (
        registry.RUNNER_CONSTRUCTORS,
        registry.MODEL_WRAPPERS,
        registry.WEIGHT_INITIALIZERS,
        registry.OPTIMIZERS,
        registry.PARAM_SCHEDULERS,
        registry.EVALUATOR,
        registry.TASK_UTILS,
        registry.VISUALIZERS,
        registry.VISBACKENDS,
        registry.LOG_PROCESSORS,
        registry.INFERENCERS,
    )
]
