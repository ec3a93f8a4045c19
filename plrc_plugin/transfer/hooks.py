"""Hooks of fine-tuning with the runners of mmdet and mmseg."""

from itertools import chain, islice, repeat

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch.nn.modules.batchnorm import _BatchNorm

from plrc_plugin.checkpoints.input_style import (
    META_KEY,
    InputStyle,
    as_style,
    check_style,
    style_of_model,
)
from plrc_plugin.checkpoints.safe_reading import damage_of
from plrc_plugin.checkpoints.start import (
    FURTHER,
    SCRATCH,
    check_whole,
    is_encoder_pair,
    start_encoders,
)
from plrc_plugin.checkpoints.trunk import find_trunk, load_trunk, read_file
from plrc_plugin.errors import SettingsError, check_positive_integers
from plrc_plugin.registry import HOOKS
from plrc_plugin.transfer.frozen import check_frozen
from plrc_plugin.wrapped_models import bare_model


@HOOKS.register_module()
class LoadTrunk(Hook):
    """Fills the model from the config's one setting ``pretrained``, in pre-training and in
    fine-tuning.

    ``pretrained`` is a checkpoint that :func:`plrc_plugin.transfer.read_trunk` understands, or
    'scratch'. A resumed run keeps the weights that it has loaded. In pre-training, where None
    stands for 'scratch', the trunk fills both encoders, and ``pretrained_parts`` may name further
    modules of the model (such as ``projector`` or ``queue``) that a checkpoint of PLRC fills, or be
    'all'.

    Raises:
        SettingsError: if fine-tuning has no ``pretrained``; if the trunk does not fit the model; if
            ``load_from`` in pre-training is less than a whole checkpoint; if ``load_from`` is set
            at all in fine-tuning, because it would leave res5 of a C4 detector untrained; or if the
            checkpoint to resume fine-tuning from is damaged, or holds objects that could run code.
    """

    def __init__(self) -> None:
        self._resumed = False

    def before_run(self, runner: Runner) -> None:
        path = runner._load_from
        if path is None or is_encoder_pair(bare_model(runner.model)):
            return
        if not runner._resume:
            raise SettingsError(
                f'load_from={path} fills the backbone alone and ignores what does not '
                'fit: set pretrained instead. To start from a whole detector, leave '
                'LoadTrunk out of custom_hooks'
            )
        damage = damage_of(path)
        if damage is not None:
            raise SettingsError(f'resume from {path}: {damage}')

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        model = bare_model(runner.model)
        if not runner._resume and is_encoder_pair(model):
            check_whole(model, checkpoint, runner._load_from)
        self._resumed = True

    def before_train(self, runner: Runner) -> None:
        model, path = bare_model(runner.model), runner.cfg.get('pretrained')
        if self._resumed:
            model.started_from = runner._load_from or 'its own checkpoint'
            if path:
                print_log(
                    f'pretrained={path} not read: a checkpoint of this run is loaded', 'current'
                )
        elif is_encoder_pair(model):
            further = [runner.cfg.get(f'pretrained_{name}') for name in FURTHER]
            start_encoders(model, path, *further)
        elif not path:
            raise SettingsError(
                'pretrained is not set: give --cfg-options pretrained=<checkpoint>, '
                'or pretrained=scratch to start from random weights'
            )
        elif path == SCRATCH:
            check_frozen(model.backbone, filled=())
            print_log('pretrained=scratch: the trunk starts from random weights', 'current')
        else:
            file = read_file(path)
            trunk = find_trunk(file, module=model.backbone)
            stated = runner.cfg.get('pretrained_input')
            style = trunk.style if stated is None else as_style('pretrained_input', stated)
            assumed = getattr(model.backbone, 'input_style', InputStyle())
            lines = [
                f'trunk of {path} ({trunk.layout}; under {trunk.prefix!r}):',
                *load_trunk(model, trunk.tensors),
                check_style(path, style, assumed, model),
                *check_frozen(model.backbone, trunk.tensors),
            ]
            print_log('\n  '.join(lines), 'current')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Writes into a checkpoint of pre-training what its trunk expects of images."""
        model = bare_model(runner.model)
        style = style_of_model(model) if is_encoder_pair(model) else None
        if style is not None:
            checkpoint['meta'][META_KEY] = style._asdict()


@HOOKS.register_module()
class EvaluateFinished(Hook):
    """Evaluates a resumed run that was cut off in its last evaluation. No step is left in it, and
    mmengine would end it without an evaluation."""

    def before_train(self, runner: Runner) -> None:
        self._start = runner.iter

    def after_train(self, runner: Runner) -> None:
        if runner.iter == self._start and runner.val_loop is not None:
            runner.val_loop.run()


@HOOKS.register_module()
class PreciseBN(Hook):
    """Gives BN the mean statistics of ``num_iters`` training batches before each evaluation.

    The running averages of fast training lag behind the weights; MoCo's detectors are evaluated
    with statistics of 200 batches instead. Checkpoints of the same iteration hold them too.
    Cost: ``num_iters`` forward passes.
    """

    def __init__(self, num_iters: int = 200) -> None:
        check_positive_integers('PreciseBN', num_iters=num_iters)
        self.num_iters = num_iters

    def after_train_iter(self, runner: Runner, batch_idx: int, **kwargs) -> None:
        loop = runner.train_loop
        if (runner.iter + 1) % loop.val_interval and runner.iter + 1 != loop.max_iters:
            return
        model = bare_model(runner.model)
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
        kept = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
        for norm in norms:
            norm.momentum = None  # a plain mean over the batches since the reset
            norm.reset_running_stats()
        # A loader of its own, so that the training batches stay the same.
        cfg = dict(runner.cfg.train_dataloader, num_workers=0, persistent_workers=False)
        loader = runner.build_dataloader(cfg, seed=runner.seed)
        batches = chain.from_iterable(repeat(loader))
        print_log(f'PreciseBN: statistics of {self.num_iters} batches', 'current')
        with torch.no_grad():
            for batch in islice(batches, self.num_iters):
                model(**model.data_preprocessor(batch, training=True), mode='loss')
        for norm, (momentum, steps) in zip(norms, kept):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(steps)
