"""How a run is driven: its loop, its checkpoints, its processes and its precision."""
from .checkpoints import AtomicCheckpointHook, damage_of, newest_intact_checkpoint
from .loading import read_without_running
from .loops import ResumableTrainLoop
from .non_finite import NonFiniteLossError, replay
from .precision import MixedPrecisionOptimWrapper
from .probe_loop import ProbeLoop
from .runner import PretrainRunner
from .seeding import seed_iteration

__all__ = [
    'AtomicCheckpointHook', 'MixedPrecisionOptimWrapper', 'NonFiniteLossError', 'PretrainRunner',
    'ProbeLoop', 'ResumableTrainLoop', 'damage_of', 'newest_intact_checkpoint',
    'read_without_running', 'replay', 'seed_iteration'
]
