"""Randomness as a function of what it is for, not of when it is drawn."""

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.random.bit_generator import ISeedSequence


class SampleKey(NamedTuple):
    """What the sampler hands out: an image in an epoch of a run.

    Attributes:
        seed: the seed of the run.
        epoch: counted from 0.
        index: the index of the image in the data set that the loader reads.
        visit: how often the image was handed out before in this epoch; above 0 for samplers that
            repeat images within an epoch.
    """

    seed: int
    epoch: int
    index: int  # type: ignore[assignment]  # it hides tuple.index, which nobody uses here
    visit: int = 0


def stream(key: SampleKey, purpose: str, number: int = 0) -> np.random.Generator:
    """Returns the random stream for (seed, epoch, image, visit, purpose, number).

    It is the same on every machine and for any number of workers. Streams of different keys are
    independent, as BLAKE2 hashes the key into the 256 bits with which the stream starts.
    """
    words = (int(key.seed), int(key.epoch), int(key.index), purpose, int(number), int(key.visit))
    return np.random.Generator(np.random.PCG64(_Digest(words)))  # type: ignore[arg-type]


class _Digest(ISeedSequence):
    """Stands in place of numpy's SeedSequence, which takes four times as long for one stream."""

    def __init__(self, words: tuple):
        self._bytes = hashlib.blake2b(repr(words).encode()).digest()

    def generate_state(self, n_words, dtype=np.uint32):
        return np.frombuffer(self._bytes, np.dtype(dtype).newbyteorder('<'), n_words).astype(dtype)
