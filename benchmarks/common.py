"""What the questions share: works, places, and the contenders of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

OURS, PLAIN = "handful", "plain"
PEERS = ("learn2learn", "higher", "torchopt", "easyfsl")


@dataclass(frozen=True, kw_only=True)
class Work:
    """Something to measure. A question adds its sizes."""

    name: str
    title: str
    peers: tuple[str, ...]
    notes: tuple[tuple[str, str], ...] = ()
    """(peer, what a reader must know of its row)."""
    compiles: ClassVar[bool] = True
    """Whether `--compile` has something to compile; works that have nothing are left out then."""


class Place(NamedTuple):
    """Where and how a contender runs."""

    threads: int = 1
    allocator: str = "default"
    """"default": the peer as shipped, ours with the allocator as the command line `handful` sets it. "tuned": both."""
    device: str = "cpu"
    precision: str = "float32"
    """"float32"; "bfloat16" by automatic mixed precision; "float64" to compare answers."""
    compiled: bool = False

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64 if self.precision == "float64" else torch.float32

    def casting(self) -> Any:
        if self.precision != "bfloat16":
            return nullcontext()
        return torch.autocast(self.device.partition(":")[0], torch.bfloat16)


class Contender(NamedTuple):
    """One side of a comparison, ready to run."""

    step: Callable[[], object]
    """What is timed. Where it returns a float, that is how many seconds it stands for."""
    answer: Callable[[], Mapping[str, Tensor]]
    """What must agree with the others, by name; names that only one side has are not compared."""
    amount: int = 1
    """How many units (episodes, for one) a step makes."""


class UnmeasuredError(Exception):
    """A contender that cannot be measured, and why."""
