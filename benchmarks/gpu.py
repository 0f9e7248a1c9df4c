"""The same on a GPU: a second-order MAML step and a prototypical training step.

    python -m benchmarks gpu --precision bfloat16
    python -m benchmarks gpu --compile

Every turn waits for the device before and after, and memory is what torch's allocator had in use at most. float32 is
torch's own: convolutions in TF32 where the GPU has it, everybody's. `--precision bfloat16` runs everybody in automatic
mixed precision; `--compile` compiles the encoder of the prototypical step, everybody's, and leaves out MAML's steps,
which are not compiled. A loop in plain torch stands beside the peers. `--device cpu` runs the same on a CPU.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from . import maml, prototypical
from .common import PLAIN, Contender, Place, Work

ALLOCATORS = ("default",)
THREADS = (1,)
DEVICE = "cuda"
SETTINGS = ("omniglot-5w1s", "mini-imagenet-5w1s")
WORKS: tuple[Work, ...] = (
    *(maml.training(name, "second", peers=("learn2learn", "higher", PLAIN)) for name in SETTINGS),
    *(replace(work, peers=("learn2learn", PLAIN)) for work in prototypical.WORKS),
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
