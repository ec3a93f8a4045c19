"""The queue of keys: MoCo's dictionary of negatives."""

from typing import NamedTuple, Optional

import torch
from lightly.models.modules.memory_bank import MemoryBankModule
from lightly.models.utils import concat_all_gather
from mmengine.dist import get_world_size
from torch import Tensor

from plrc_plugin.errors import SettingsError


class KeyQueue(MemoryBankModule):
    """lightly's memory bank as a part of the checkpoint, exact at the end of the ring.

    Keys wait until the optimiser has stepped. So the bank does not change between a forward and its
    backward, no step has to copy it, and all micro-batches of one optimiser step see the same
    negatives. Whether the optimiser has stepped is a tensor on the device, which the host may read
    much later. ``flush`` writes the waiting keys if it has stepped, and ``settle`` then removes
    them.

    Args:
        size (int): K, number of keys.
        dim (int): D.
        keeps_ids (bool): whether to keep the image id of each key. Defaults to False.

    Attributes:
        bank (Tensor): (K, D) float32, l2-normalised. It is random until K keys were pushed, which
            is why L_m rises at first.
        bank_ptr (Tensor): (1,) int64, where the next key goes.
        ids (Tensor): (K,) int64, the image of each key, -1 = random; None without ``keeps_ids``.
    """

    def __init__(self, size: int, dim: int, keeps_ids: bool = False):
        super().__init__((size, dim))
        # lightly leaves its buffers out of state dicts, so that a resumed run would lose the queue.
        self.register_buffer('bank', self.bank, persistent=True)
        self.register_buffer('bank_ptr', self.bank_ptr, persistent=True)
        ids = torch.full((size,), -1) if keeps_ids else None
        self.register_buffer('ids', ids, persistent=keeps_ids)
        self._waiting: list[_Keys] = []
        self._flushes = 0

    @torch.no_grad()
    def push(self, keys: Tensor, ids: Optional[Tensor] = None) -> None:
        """Adds the keys (B, D) of every rank, with the ids (B,) of their images, to the waiting
        ones, in the order of the ranks."""
        rows = [keys.detach().to(self.bank.dtype)] + ([ids] if self.ids is not None else [])
        if get_world_size() > 1:
            rows = [concat_all_gather(of_rank.contiguous()) for of_rank in rows]
        waits = torch.ones((), dtype=torch.bool, device=keys.device)
        latest = [every[-len(self.bank) :] for every in rows]
        self._waiting.append(_Keys(latest, waits, self._flushes))

    @torch.no_grad()
    def flush(self, stepped: Tensor) -> None:
        """Replaces the oldest keys by the waiting ones if ``stepped``, a () bool tensor, is
        true."""
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
        """Returns (B, K) bool, the keys that come from the images ``ids`` (B,); None without
        ``keeps_ids``.

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
        """Removes the keys that a flush, counted from 0, has written."""
        self._waiting = [keys for keys in self._waiting if keys.flushes > flush]

    def discard(self) -> None:
        """Removes all waiting keys."""
        self._waiting.clear()


class _Keys(NamedTuple):
    """Waiting keys (B, D) and, if they are kept, their ids (B,); whether they still wait, () bool;
    and the number of flushes before they came."""

    rows: list[Tensor]
    waits: Tensor
    flushes: int
