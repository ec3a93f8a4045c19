"""The training run: its loop, its hooks, its processes and its precision."""

from plrc_plugin.checkpoints import damage_of, newest_intact_checkpoint, read_without_running
from plrc_plugin.engine import hooks
from plrc_plugin.engine.layerwise_rates import LayerwiseRates
from plrc_plugin.engine.loops import ResumableTrainLoop
from plrc_plugin.engine.non_finite import replay
from plrc_plugin.engine.precision import MixedPrecisionOptimWrapper
from plrc_plugin.engine.probe_loop import ProbeLoop
from plrc_plugin.engine.runner import PretrainRunner
from plrc_plugin.engine.seeding import seed_iteration
from plrc_plugin.errors import NonFiniteLossError

__all__ = [
    'LayerwiseRates',
    'MixedPrecisionOptimWrapper',
    'NonFiniteLossError',
    'PretrainRunner',
    'ProbeLoop',
    'ResumableTrainLoop',
    'damage_of',
    'hooks',
    'newest_intact_checkpoint',
    'read_without_running',
    'replay',
    'seed_iteration',
]
