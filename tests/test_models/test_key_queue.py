"""The queue is a ring, waits for the optimiser step, and survives a checkpoint."""

import io
import itertools

import pytest
import torch

from plrc_plugin.errors import SettingsError
from plrc_plugin.models.key_queue import KeyQueue

YES, NO = torch.tensor(True), torch.tensor(False)


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
        queue.flush(YES)
        for key in keys[-5:]:
            expected[pointer] = key
            pointer = (pointer + 1) % 5
    assert int(queue.bank_ptr) == pointer
    for slot, key in enumerate(expected):
        if key is not None:
            assert queue.bank[slot].tolist() == [key] * 3


def test_keys_wait_until_the_optimiser_has_stepped():
    queue = KeyQueue(4, 3)
    before = queue.bank.clone()
    queue.push(rows(1, 2))
    queue.flush(NO)
    queue.push(rows(3))
    assert torch.equal(queue.bank, before) and int(queue.bank_ptr) == 0
    queue.flush(YES)
    assert queue.bank[:3, 0].tolist() == [1, 2, 3] and int(queue.bank_ptr) == 3
    assert torch.equal(queue.bank[3], before[3])


@pytest.mark.parametrize('settle_after', [1, 2, 5])
def test_the_host_may_learn_late_what_a_flush_has_written(settle_after):
    """Against a list, for every way in which eight flushes may find a step or none."""
    for steps in itertools.product([False, True], repeat=8):
        queue, expected, waiting, settled = KeyQueue(5, 3), [], [], 0
        for number, stepped in enumerate(steps):
            queue.flush(YES if stepped else NO)
            if stepped:
                expected, waiting = expected + waiting, []
            queue.push(rows(number))
            waiting.append(number)
            if number % settle_after == 0:
                for flush in range(settled, number + 1):
                    if steps[flush]:
                        queue.settle(flush)
                settled = number + 1
        assert int(queue.bank_ptr) == len(expected) % 5
        for slot in range(min(5, len(expected))):
            latest = [number for i, number in enumerate(expected) if i % 5 == slot][-1]
            assert queue.bank[slot].tolist() == [latest] * 3
        if settle_after == 1:
            assert [int(keys.rows[0][0, 0]) for keys in queue._waiting] == waiting


def test_starts_random_on_the_sphere():
    bank = KeyQueue(64, 8).bank
    torch.testing.assert_close(bank.norm(dim=1), torch.ones(64))
    assert bank.mean(0).norm() < 0.5


def test_checkpoint_holds_the_queue():
    queue = KeyQueue(4, 3)
    queue.push(rows(1, 2, 3))
    queue.flush(YES)
    buffer = io.BytesIO()
    torch.save(queue.state_dict(), buffer)
    buffer.seek(0)
    other = KeyQueue(4, 3)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(other.bank, queue.bank) and int(other.bank_ptr) == 3


def test_ids_move_with_their_keys():
    queue = KeyQueue(5, 3, keeps_ids=True)
    assert queue.ids.tolist() == [-1] * 5
    queue.push(rows(1, 2, 3), torch.tensor([10, 20, 30]))
    queue.flush(NO)
    queue.flush(YES)
    queue.push(rows(4, 5, 6), torch.tensor([40, 50, 60]))
    queue.flush(YES)
    assert queue.bank[:, 0].tolist() == [6, 2, 3, 4, 5]
    assert queue.ids.tolist() == [60, 20, 30, 40, 50]
    own = queue.own(torch.tensor([20, 70, 60]))
    assert own.nonzero().tolist() == [[0, 1], [2, 0]]
    assert 'ids' in queue.state_dict() and 'ids' not in KeyQueue(5, 3).state_dict()
    with pytest.raises(SettingsError, match='mask_own_keys: the batch does not say'):
        queue.own(None)
