"""The queue of keys: MoCo's dictionary of negatives."""

from typing import NamedTuple, Optional

import torch
from lightly.models.modules.memory_bank import MemoryBankModule
from lightly.models.utils import concat_all_gather
from mmengine.dist import get_world_size
from torch import Tensor

from plrc_plugin.errors import SettingsError


class KeyQueue(MemoryBankModule):
    """lightly's memory bank, made part of the checkpoint and exact at the end of the ring.

    Keys wait until the optimiser has stepped: the bank does not change between a forward and its
    backward, so that no step copies it, and the micro-batches of one optimiser step all see the
    same negatives. Whether it has stepped is a tensor on the device, of which the host may learn
    much later: ``flush`` writes the waiting keys where it has, and ``settle`` lets go of them.

    Args:
        size (int): K, number of keys.
        dim (int): D.
        keeps_ids (bool): remember of which image each key is. Defaults to False.

    Attributes:
        bank (Tensor): (K, D) float32, l2-normalised; random until K keys were pushed, which is why
            L_m first rises.
        bank_ptr (Tensor): (1,) int64, where the next key goes.
        ids (Tensor): (K,) int64, the image of each key, -1 = random; None without ``keeps_ids``.
    """

    def __init__(self, size: int, dim: int, keeps_ids: bool = False):
        super().__init__((size, dim))
        # lightly leaves its buffers out of state dicts: a resumed run would lose the queue.
        self.register_buffer('bank', self.bank, persistent=True)
        self.register_buffer('bank_ptr', self.bank_ptr, persistent=True)
        ids = torch.full((size,), -1) if keeps_ids else None
        self.register_buffer('ids', ids, persistent=keeps_ids)
        self._waiting: list[_Keys] = []
        self._flushes = 0

    @torch.no_grad()
    def push(self, keys: Tensor, ids: Optional[Tensor] = None) -> None:
        """Lets the keys (B, D) of every rank wait, and the ids (B,) of their images, in the order
        of the ranks."""
        rows = [keys.detach().to(self.bank.dtype)] + ([ids] if self.ids is not None else [])
        if get_world_size() > 1:
            rows = [concat_all_gather(of_rank.contiguous()) for of_rank in rows]
        waits = torch.ones((), dtype=torch.bool, device=keys.device)
        latest = [every[-len(self.bank) :] for every in rows]
        self._waiting.append(_Keys(latest, waits, self._flushes))

    @torch.no_grad()
    def flush(self, stepped: Tensor) -> None:
        """Replaces the oldest keys by the waiting ones where ``stepped``, () bool, is true."""
        for rows, waits, _ in self._waiting:
            written = waits & stepped
            count = len(rows[0])
            places = (torch.arange(count, device=waits.device) + self.bank_ptr) % len(self.bank)
            for ring, new in zip((self.bank, self.ids), rows):
                ring.index_copy_(0, places, torch.where(written, new, ring[places]))
            self.bank_ptr.add_(written * count).remainder_(len(self.bank))
            waits &= ~stepped
        self._flushes += 1

    def own(self, ids: Optional[Tensor]) -> Optional[Tensor]:
        """(B, K) bool: the keys that are of the images ``ids`` (B,); None without ``keeps_ids``.

        Raises:
            SettingsError: if the batch has no ids.
        """
        if self.ids is None:
            return None
        if ids is None:
            raise SettingsError(
                'mask_own_keys: the batch does not say which images it shows: collate it by '
                'plrc_plugin.collate_views, or fill image_ids of ViewBatch'
            )
        return ids.unsqueeze(1) == self.ids

    def settle(self, flush: int) -> None:
        """Lets go of the keys that waited at a flush, counted from 0, which has written them."""
        self._waiting = [keys for keys in self._waiting if keys.flushes > flush]

    def discard(self) -> None:
        """Lets go of all waiting keys."""
        self._waiting.clear()


class _Keys(NamedTuple):
    """Keys (B, D) and, where they are kept, ids (B,); whether they still wait, () bool; and how
    many flushes came before."""

    rows: list[Tensor]
    waits: Tensor
    flushes: int
