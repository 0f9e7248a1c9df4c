"""A learner's own random numbers as a function of (seed, turn): the global generators are neither read nor moved."""

from __future__ import annotations

from operator import index
from typing import SupportsIndex

import torch
from torch import Tensor, nn

from .seeds import generator

__all__ = ["Noise"]


class Noise(nn.Module):
    """Standard normal numbers that are the same whenever they are asked for, until the turn is the next.

    The turn is a buffer, so that a checkpoint keeps it and a resumed run draws what the unbroken one would have.

    Args:
        seed: another seed is other noise.
    """

    turn: Tensor

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = index(seed)
        self.register_buffer("turn", torch.zeros((), dtype=torch.long))

    def normal(self, *key: SupportsIndex | str, shape: tuple[int, ...], like: Tensor, moving: bool) -> Tensor:
        """Numbers [*shape], of the type and on the device of `like`.

        Args:
            key: what they are for; other keys give other numbers.
            shape: how many.
            like: any tensor.
            moving: other numbers at every turn; else the same at all turns.
        """
        turn = (int(self.turn),) if moving else ()
        numbers = generator("normal", self.seed, *key, *turn).standard_normal(shape)
        return torch.from_numpy(numbers).to(like)

    def next_turn(self, tasks: int) -> Tensor:
        """What the turn becomes with a step of training: the same for each task, [B]."""
        return (self.turn + 1).expand(tasks)

    @torch.no_grad()
    def advance_(self) -> None:
        """The next turn: a step of training is over."""
        self.turn += 1
