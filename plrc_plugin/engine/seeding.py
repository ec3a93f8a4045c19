"""Global randomness as a function of the iteration."""

import random

import numpy as np
import torch


def seed_iteration(seed: int, iteration: int, rank: int = 0) -> None:
    """Seeds Python, numpy and torch (all devices) from (seed, iteration, rank).

    Whatever an iteration draws from the global generators (shuffled batch normalisation, dropout,
    stochastic depth) is then the same in a run that was resumed, and no generator's state needs
    saving.
    """
    words = np.random.SeedSequence((seed, iteration, rank)).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.manual_seed(int(words[2]))
