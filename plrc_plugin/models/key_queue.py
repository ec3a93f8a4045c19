"""The queue of keys: MoCo's dictionary of negatives."""

import torch
from lightly.models.modules.memory_bank import MemoryBankModule
from lightly.models.utils import concat_all_gather
from mmengine.dist import get_world_size
from torch import Tensor


class KeyQueue(MemoryBankModule):
    """lightly's memory bank, made part of the checkpoint and exact at the end of the ring.

    Keys wait until the optimiser has stepped: the bank does not change between a forward and its
    backward, so that no step copies it, and the micro-batches of one optimiser step all see the
    same negatives. Whether it has stepped is a tensor on the device, and the host learns of it
    later: ``flush`` writes the waiting keys where it has, ``settle`` then forgets them.

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
        self._offered = 0  # how many of them the last flush may have written

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Lets the keys (B, D) of every rank wait, in the order of the ranks."""
        keys = keys.detach().to(self.bank.dtype)
        self._waiting.append(concat_all_gather(keys) if get_world_size() > 1 else keys)

    @torch.no_grad()
    def flush(self, stepped: Tensor) -> None:
        """Replaces the oldest keys by the waiting ones where ``stepped``, () bool, is true."""
        self._offered = len(self._waiting)
        if not self._waiting:
            return
        size = len(self.bank)
        keys = torch.cat(self._waiting)[-size:]
        positions = torch.arange(len(keys), device=keys.device).add_(self.bank_ptr) % size
        keys = torch.where(stepped, keys, self.bank[positions])
        self.bank.index_copy_(0, positions, keys)
        self.bank_ptr.add_(stepped * len(keys)).remainder_(size)

    def settle(self, stepped: bool) -> None:
        """Forgets the keys of the last ``flush`` if it has written them."""
        if stepped:
            del self._waiting[: self._offered]
        self._offered = 0

    def discard(self) -> None:
        """Forgets all waiting keys."""
        self._waiting.clear()
        self._offered = 0
