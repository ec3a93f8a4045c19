# One setting for the checkpoint: --cfg-options pretrained=<file>, or pretrained=scratch.
pretrained = None

custom_imports = dict(imports=['plrc_plugin'], allow_failed_imports=False)
custom_hooks = [dict(type='plrc_plugin.LoadTrunk'), dict(type='plrc_plugin.EvaluateFinished')]
randomness = dict(seed=0)
