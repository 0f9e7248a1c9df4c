from __future__ import annotations

import math

import torch
from torch import Tensor

from handful.ops.buffers import Buffers, settle_


def buffers() -> list[Tensor]:
    return [torch.tensor([0.1, -math.inf]), torch.tensor(3), torch.tensor([True])]


def test_a_buffer_becomes_the_mean_of_what_the_tasks_made_of_it() -> None:
    mean, counter, _ = buffers()
    settle_(mean, torch.tensor([[1.1, -math.inf], [2.1, -math.inf], [0.1, -math.inf]]))
    torch.testing.assert_close(mean, torch.tensor([1.1, -math.inf]))
    settle_(counter, torch.tensor([4, 4, 4]))
    assert int(counter) == 4


def test_what_does_not_change_keeps_its_bits() -> None:
    mean, _, _ = buffers()
    settle_(mean, mean.expand(3, 2).clone())  # three times 0.1 by three is not 0.1
    assert torch.equal(mean, buffers()[0])


def test_parts_begin_from_the_same_buffers_and_their_weighted_mean_stays() -> None:
    mean, counter, flag = every = buffers()
    parts = Buffers(every)
    for value, weight in ((1.1, 0.25), (2.1, 0.75)):
        assert (float(mean[0]), int(counter), bool(flag)) == (float(torch.tensor(0.1)), 3, True)
        mean[0] = value
        counter += 1
        flag.fill_(False)
        parts.add(weight)
    parts.settle()
    torch.testing.assert_close(mean, torch.tensor([0.25 * 1.1 + 0.75 * 2.1, -math.inf]))
    assert (int(counter), bool(flag)) == (4, False)
