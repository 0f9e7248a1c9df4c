"""The same on a GPU: a second-order MAML step and a prototypical training step.

    python -m benchmarks gpu --device cuda --precision bfloat16 --compile

Every turn waits for the device before and after, and memory is what torch's allocator had in use at most.
`--precision bfloat16` runs everybody in automatic mixed precision; `--compile` compiles the encoder of the prototypical
step, everybody's (a MAML step is not compiled). It runs on `--device cpu` too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from . import maml, prototypical
from .common import Contender, Place, Work

ALLOCATORS = ("default",)
THREADS = (1,)
DEVICE = "cuda"
SETTINGS = ("omniglot-5w1s", "mini-imagenet-5w1s")
WORKS: tuple[Work, ...] = (
    *(maml.training(name, "second", peers=("learn2learn", "higher")) for name in SETTINGS),
    *(replace(work, peers=("learn2learn",)) for work in prototypical.WORKS),
)


def contender(work: Work, who: str, place: Place) -> Contender:
    """Ours or a peer, as in the question that the work comes from."""
    return _origin(work).contender(work, who, place)


def checked(work: Work) -> Work:
    """As there."""
    return _origin(work).checked(work)


def flops(work: Work) -> float:
    """As there."""
    return _origin(work).flops(work)


def tiny(work: Work) -> Work:
    """As there."""
    return _origin(work).tiny(work)


def _origin(work: Work) -> Any:
    return maml if isinstance(work, maml.Training) else prototypical
