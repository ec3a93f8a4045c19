"""The queue is a ring, waits for the optimiser step, and survives a checkpoint."""

import io

import pytest
import torch

from plrc_plugin.models.key_queue import KeyQueue


def rows(*numbers):
    return torch.tensor(numbers, dtype=torch.float).unsqueeze(1).expand(-1, 3).contiguous()


@pytest.mark.parametrize('batches', [[2, 2, 2], [3, 3, 3], [1, 4, 2, 5], [7], [12], [5, 5]])
def test_ring_keeps_the_latest_keys(batches):
    """Against a plain list, also where a batch crosses the end or exceeds the queue."""
    queue, expected, pointer, number = KeyQueue(5, 3), [None] * 5, 0, 0
    for count in batches:
        keys = list(range(number, number + count))
        number += count
        queue.push(rows(*keys))
        queue.flush()
        for key in keys[-5:]:
            expected[pointer] = key
            pointer = (pointer + 1) % 5
    assert int(queue.bank_ptr) == pointer
    for slot, key in enumerate(expected):
        if key is not None:
            assert queue.bank[slot].tolist() == [key] * 3


def test_keys_wait_until_flushed():
    queue = KeyQueue(4, 3)
    before = queue.bank.clone()
    queue.push(rows(1, 2))
    queue.push(rows(3))
    assert torch.equal(queue.bank, before)
    queue.flush()
    assert queue.bank[:3, 0].tolist() == [1, 2, 3] and int(queue.bank_ptr) == 3
    queue.flush()
    assert int(queue.bank_ptr) == 3


def test_starts_random_on_the_sphere():
    bank = KeyQueue(64, 8).bank
    torch.testing.assert_close(bank.norm(dim=1), torch.ones(64))
    assert bank.mean(0).norm() < 0.5


def test_checkpoint_holds_the_queue_and_what_waits():
    queue = KeyQueue(4, 3)
    queue.push(rows(1, 2, 3))
    buffer = io.BytesIO()
    torch.save(queue.state_dict(), buffer)
    buffer.seek(0)
    other = KeyQueue(4, 3)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert other.bank[:3, 0].tolist() == [1, 2, 3] and int(other.bank_ptr) == 3
    assert int(queue.bank_ptr) == 0  # looking changed nothing
    queue.flush()
    assert torch.equal(other.bank, queue.bank)
