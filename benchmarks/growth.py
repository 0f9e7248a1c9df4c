"""How does the cost of a second-order MAML step grow with tasks, steps and ways?

Omniglot's shape, one of the three at a time, ours beside learn2learn. `docs/growth.svg` is drawn from it.
"""

from __future__ import annotations

from .common import Work
from .maml import checked, contender, flops, tiny, training

__all__ = ["ALLOCATORS", "AXES", "SHARE", "THREADS", "WORKS", "checked", "contender", "flops", "tiny"]

ALLOCATORS = ("default",)
THREADS = (1,)
SHARE = 0.2  # of the seconds that other questions take for each work
BASE = {"tasks": 4, "steps": 1, "ways": 5}
AXES = {"tasks": (1, 2, 4, 8, 16, 32), "steps": (1, 2, 3, 5, 10), "ways": (2, 5, 10, 20, 40)}
WORKS: tuple[Work, ...] = tuple(
    training(
        "omniglot-5w1s",
        "second",
        name=f"growth-{axis}-{size}",
        title=", ".join(f"{number} {what}" for what, number in (BASE | {axis: size}).items()),
        peers=("learn2learn",),
        rate=0.1,
        **(BASE | {axis: size}),
    )
    for axis, sizes in AXES.items()
    for size in sizes
)
