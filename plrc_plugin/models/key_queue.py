"""The queue of keys: MoCo's dictionary of negatives."""

import copy

import torch
from lightly.models.modules.memory_bank import MemoryBankModule
from lightly.models.utils import concat_all_gather
from mmengine.dist import get_world_size
from torch import Tensor


class KeyQueue(MemoryBankModule):
    """lightly's memory bank, made part of the checkpoint and exact at the end of the ring.

    Keys wait in ``push`` until ``flush``: the bank does not change between the forward and the
    backward that reads it, so that no step copies it, and the micro-batches of one optimiser step
    all see the same negatives. Positions are computed on the device, without synchronisation.

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
        self._waiting: list[Tensor] = []

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Takes the keys (B, D) of every rank, in the order of ranks, for the next ``flush``."""
        keys = keys.detach().to(self.bank.dtype)
        self._waiting.append(concat_all_gather(keys) if get_world_size() > 1 else keys)

    @torch.no_grad()
    def flush(self) -> None:
        """Lets the waiting keys replace the oldest ones."""
        if not self._waiting:
            return
        size = len(self.bank)
        keys = torch.cat(self._waiting)[-size:]
        self._waiting.clear()
        positions = torch.arange(len(keys), device=keys.device).add_(self.bank_ptr) % size
        self.bank.index_copy_(0, positions, keys)
        self.bank_ptr.add_(len(keys)).remainder_(size)

    def discard(self) -> None:
        """Forgets the waiting keys."""
        self._waiting.clear()

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        """The queue as it will be after the next flush; reading it changes nothing."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self._waiting:
            ahead = copy.deepcopy(self)
            ahead.flush()
            destination.update({prefix + name: b for name, b in ahead.named_buffers()})
