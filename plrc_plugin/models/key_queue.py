"""The queue of keys: MoCo's dictionary of negatives."""

from typing import NamedTuple

import torch
from lightly.models.modules.memory_bank import MemoryBankModule
from lightly.models.utils import concat_all_gather
from mmengine.dist import get_world_size
from torch import Tensor


class KeyQueue(MemoryBankModule):
    """lightly's memory bank, made part of the checkpoint and exact at the end of the ring.

    Keys wait until the optimiser has stepped: the bank does not change between a forward and its
    backward, so that no step copies it, and the micro-batches of one optimiser step all see the
    same negatives. Whether it has stepped is a tensor on the device, of which the host may learn
    much later: ``flush`` writes the waiting keys where it has, and ``settle`` lets go of them.

    Args:
        size (int): K, number of keys.
        dim (int): D.

    Attributes:
        bank (Tensor): (K, D) float32, l2-normalised; random until K keys were pushed, which is why
            L_m first rises.
        bank_ptr (Tensor): (1,) int64, where the next key goes.
    """

    def __init__(self, size: int, dim: int):
        super().__init__((size, dim))
        # lightly leaves its buffers out of state dicts: a resumed run would lose the queue.
        self.register_buffer('bank', self.bank, persistent=True)
        self.register_buffer('bank_ptr', self.bank_ptr, persistent=True)
        self._waiting: list[_Keys] = []
        self._flushes = 0

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Lets the keys (B, D) of every rank wait, in the order of the ranks."""
        keys = keys.detach().to(self.bank.dtype)
        keys = concat_all_gather(keys) if get_world_size() > 1 else keys
        waits = torch.ones((), dtype=torch.bool, device=keys.device)
        self._waiting.append(_Keys(keys[-len(self.bank) :], waits, self._flushes))

    @torch.no_grad()
    def flush(self, stepped: Tensor) -> None:
        """Replaces the oldest keys by the waiting ones where ``stepped``, () bool, is true."""
        for keys, waits, _ in self._waiting:
            written = waits & stepped
            positions = torch.arange(len(keys), device=keys.device) + self.bank_ptr
            positions %= len(self.bank)
            kept = self.bank[positions]
            self.bank.index_copy_(0, positions, torch.where(written, keys, kept))
            self.bank_ptr.add_(written * len(keys)).remainder_(len(self.bank))
            waits &= ~stepped
        self._flushes += 1

    def settle(self, flush: int) -> None:
        """Lets go of the keys that waited at a flush, counted from 0, which has written them."""
        self._waiting = [keys for keys in self._waiting if keys.flushes > flush]

    def discard(self) -> None:
        """Lets go of all waiting keys."""
        self._waiting.clear()


class _Keys(NamedTuple):
    """Keys (B, D), whether they still wait, () bool, and how many flushes came before them."""

    keys: Tensor
    waits: Tensor
    flushes: int
