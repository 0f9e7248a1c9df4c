"""Buffers of many tasks: each task begins from the same ones, and the mean over tasks of what they become stays.

So running statistics depend neither on the order of the tasks nor on which process sees which.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["Buffers", "settle_"]


def _change(after: Tensor, before: Tensor) -> Tensor:
    """What a buffer changed by: exactly 0 where it did not, infinities included."""
    return torch.where(after == before, torch.zeros_like(after), after - before)


@torch.no_grad()
def settle_(buffer: Tensor, tasks: Tensor) -> None:
    """Put into a buffer the mean of what it became in each task [B, ...]; counters as the first task left them."""
    if buffer.is_floating_point():
        buffer += _change(tasks, buffer).mean(0)
    else:
        buffer.copy_(tasks[0])


class Buffers:
    """Buffers through the parts of one step: each part begins from the same ones, and their weighted mean stays.

    Attributes:
        changes: of buffers of floats: the sum of the weighted changes, to be summed over processes too.
        counters: of other buffers: what the first part left, to be taken from the first process.
    """

    @torch.no_grad()
    def __init__(self, buffers: Iterable[Tensor]) -> None:
        every = list(buffers)
        self._floats = [buffer for buffer in every if buffer.is_floating_point()]
        self._others = [buffer for buffer in every if not buffer.is_floating_point()]
        self._before = [buffer.clone() for buffer in (*self._floats, *self._others)]
        self.changes = [torch.zeros_like(buffer) for buffer in self._floats]
        self.counters = [buffer.clone() for buffer in self._others]
        self._parts = 0

    @torch.no_grad()
    def add(self, weight: float) -> None:
        """Note what a part of this weight changed, and undo it."""
        for change, buffer, before in zip(self.changes, self._floats, self._before, strict=False):
            change += weight * _change(buffer, before)
        if self._parts == 0:
            for counter, buffer in zip(self.counters, self._others, strict=True):
                counter.copy_(buffer)
        self._parts += 1
        for buffer, before in zip((*self._floats, *self._others), self._before, strict=True):
            buffer.copy_(before)

    @torch.no_grad()
    def settle(self) -> None:
        """Give the buffers what came of all parts."""
        for buffer, change in zip(self._floats, self.changes, strict=True):
            buffer += change
        for buffer, counter in zip(self._others, self.counters, strict=True):
            buffer.copy_(counter)
