"""All pieces, the most decisive first."""

from . import correct, denominators, evidence, speed, whole_runs
from .pieces import Piece

PIECES = {
    'machine': Piece(speed.measure_machine, 'The machine', 20),
    'tests': Piece(correct.run_cuda_tests, 'CUDA tests', 90),
    'losses': Piece(correct.check_losses, 'Losses', 40),
    'steps': Piece(correct.check_steps, 'Whole steps', 90),
    'waits': Piece(correct.check_waits, 'Hidden synchronisations', 60),
    'speed': Piece(speed.measure_speed, 'Speed', 150),
    'trunks': Piece(speed.measure_trunks, 'Other trunks', 90),
    'views': Piece(correct.check_views, 'Augmentation on the device', 40),
    'denominators': Piece(denominators.measure_denominators, 'Denominators of L_c', 60),
    'models_twice': Piece(correct.check_models_twice, 'Determinism of each model', 90),
    'runs_twice': Piece(whole_runs.check_runs_twice, 'Runs, and runs killed and resumed', 240),
    'profile': Piece(speed.profile_step, 'Where the time goes', 40),
    'options': Piece(speed.measure_options, 'Options', 60),
    'compiled': Piece(speed.measure_compiled, 'Compiled trunks', 180),
    'graphs': Piece(speed.measure_graphs, 'CUDA graphs', 180),
    'memory': Piece(speed.measure_memory, 'Memory', 90),
    'processes': Piece(whole_runs.check_processes, 'Many processes', 120),
    'loader': Piece(speed.measure_loader, 'The loader', 120),
    'evidence': Piece(evidence.check_evidence, 'Evidence', 60),
}
