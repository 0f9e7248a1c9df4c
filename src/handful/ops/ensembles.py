"""Several models for each task: L members, kept as [B, L, ...] and computed as B·L tasks."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..episode import Support, map_data
from .tasks import map_tasks

__all__ = ["each_support", "each_time", "folded", "mixture", "unfolded"]


def each_time(state: Any, members: int) -> Any:
    """Every task `members` times in a row: tensors [B, ...] -> [B·L, ...]."""
    return map_tasks(lambda leaf: leaf.repeat_interleave(members, 0), state)


def each_support(support: Support, members: int) -> Support:
    """A support of B·L tasks: each of the B tasks `members` times in a row."""
    weight = None if support.weight is None else each_time(support.weight, members)
    x = map_data(lambda leaf: leaf.repeat_interleave(members, 0), support.x)
    return replace(support, x=x, y=each_time(support.y, members), weight=weight)


def folded(state: Any) -> Any:
    """[B, L, ...] -> [B·L, ...]."""
    return map_tasks(lambda leaf: leaf.flatten(0, 1), state)


def unfolded(state: Any, members: int) -> Any:
    """[B·L, ...] -> [B, L, ...]."""
    return map_tasks(lambda leaf: leaf.unflatten(0, (-1, members)), state)


def mixture(outputs: Tensor, *, classes: bool) -> Tensor:
    """The answer of the members together: [B, L, Q, *out] -> [B, Q, *out].

    Of logits the logarithm of the mean probability; of a regression's outputs the mean.
    """
    if not classes:
        return outputs.mean(1)
    return outputs.log_softmax(-1).logsumexp(1) - math.log(outputs.shape[1])
