"""Makes global randomness a function of the iteration."""

import random

import numpy as np
import torch


def seed_iteration(seed: int, iteration: int, rank: int = 0) -> None:
    """Seeds Python, numpy and torch (all devices) from (seed, iteration, rank).

    The draws of an iteration from the global generators (dropout, stochastic depth) are then the
    same in a resumed run, and no generator's state has to be saved.
    """
    words = np.random.SeedSequence((seed, iteration, rank)).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.manual_seed(int(words[2]))
