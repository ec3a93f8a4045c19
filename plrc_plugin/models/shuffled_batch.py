"""Shuffles a batch over the processes, so that their batch statistics mix (MoCo, Section 3.3)."""

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import MessageHub
from torch import Tensor
from torch import distributed as dist


def draw_order(count: int) -> Tensor:
    """Returns a permutation of ``count`` rows, (count,) int64 on the CPU. It is a function of the
    run's seed and the iteration, and so the same on every process."""
    hub = MessageHub.get_current_instance()
    words = (hub.get_info('seed', 0) or 0, hub.get_info('iter', 0))
    seed = int(np.random.SeedSequence(words).generate_state(1)[0])
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def redistribute(rows: Tensor, order: Tensor) -> Tensor:
    """Puts the rows of all processes in another order, and divides them among the processes again.

    Each process receives only the B rows that it needs; gathering all rows would move B times the
    number of processes. The inverse of ``order`` brings the rows back.

    Args:
        rows (Tensor): (B, ...), with the same B on all processes.
        order (Tensor): (B * processes,) int64 on the CPU. Process r receives the rows
            ``order[r * B:(r + 1) * B]`` of the concatenation.

    Returns:
        Tensor: (B, ...).
    """
    rank, size, count = get_rank(), get_world_size(), len(rows)
    wanted = order.view(size, count)
    owners = wanted // count
    sent = [wanted[r][owners[r] == rank] - rank * count for r in range(size)]
    arrived = rows.new_empty(rows.shape)
    dist.all_to_all_single(
        arrived,
        rows[_without_waiting(torch.cat(sent), rows.device)].contiguous(),
        output_split_sizes=owners[rank].bincount(minlength=size).tolist(),
        input_split_sizes=[len(s) for s in sent],
    )
    # The rows arrive sorted by owner. This puts them in the order that was asked for.
    back = owners[rank].argsort(stable=True).argsort()
    arrived = arrived[_without_waiting(back, rows.device)]
    return (
        arrived.contiguous(memory_format=torch.channels_last) if _channels_last(rows) else arrived
    )


def _without_waiting(indices: Tensor, device: torch.device) -> Tensor:
    """Copies indices from the CPU to the device. With pinned memory the host need not wait until
    the device has finished its earlier work."""
    if device.type == 'cuda':
        indices = indices.pin_memory()
    return indices.to(device, non_blocking=True)


def _channels_last(rows: Tensor) -> bool:
    return rows.dim() == 4 and rows.is_contiguous(memory_format=torch.channels_last)
