"""Randomness as a function of what it is for, not of when it is drawn."""

import zlib
from typing import NamedTuple

import numpy as np


class SampleKey(NamedTuple):
    """What the sampler hands out: an image in an epoch of a run.

    Attributes:
        seed: of the run.
        epoch: from 0.
        index: of the image, in the data set that the loader reads.
        visit: how often the image was handed out before in this epoch; above 0 for samplers that
            repeat images within an epoch.
    """

    seed: int
    epoch: int
    index: int  # type: ignore[assignment]  # it hides tuple.index, which nobody asks for
    visit: int = 0


def stream(key: SampleKey, purpose: str, number: int = 0) -> np.random.Generator:
    """A random stream of its own for (seed, epoch, image, visit, purpose, number).

    The same on every machine and for any number of workers; streams of different keys are
    independent (numpy's SeedSequence).
    """
    words = (key.seed, key.epoch, key.index, zlib.crc32(purpose.encode()), number)
    if key.visit:
        words += (key.visit,)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))
