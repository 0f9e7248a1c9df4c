"""How many episodes a second come out of memory, on one thread?

Two shapes of task: Omniglot's (1,200 characters × 4 rotations × 20 drawings of 1×28×28 bytes, 20-way 1-shot with one
query a class) and mini-ImageNet's (64 classes of 3×84×84 bytes, 5-way 1-shot with 15 queries a class). Ours come in
batches: as bytes, which are read as floats when the encoder asks for them; or as these floats in [0, 1]. A peer makes
one at a time, as it always does, from pictures that are floats beforehand, in four times the memory. Seconds are those
of one episode.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from handful.data import ClassPool, Episodes

from . import peers
from .common import OURS, Contender, Place, Work

ALLOCATORS = ("default",)
THREADS = (1,)


@dataclass(frozen=True, kw_only=True)
class Sampling(Work):
    """Pictures and the tasks drawn from them."""

    classes: int
    count: int
    shape: tuple[int, ...]
    ways: int
    queries: int
    batch: int
    floats: bool


def _works() -> list[Sampling]:
    loaders = ("learn2learn", "easyfsl")
    drawings: dict[str, Any] = {"classes": 4800, "count": 20, "shape": (1, 28, 28), "ways": 20, "queries": 1}
    pictures: dict[str, Any] = {"classes": 64, "count": 300, "shape": (3, 84, 84), "ways": 5, "queries": 15}
    return [
        Sampling(
            name=f"{name}-batch{batch}{'-floats' * floats}",
            title=f"{title}, batches of {batch} as {'floats' if floats else 'bytes'}",
            peers=loaders,
            batch=batch,
            floats=floats,
            **sizes,
        )
        for name, title, sizes in (
            ("sampling-omniglot-20w1s", "Omniglot 20-way 1-shot, 1 query", drawings),
            ("sampling-mini-imagenet-5w1s", "mini-ImageNet 5-way 1-shot, 15 queries", pictures),
        )
        for batch in (1, 16, 64)
        for floats in (False, True)
    ]


WORKS: tuple[Work, ...] = tuple(_works())


def contender(work: Sampling, who: str, place: Place) -> Contender:
    """Ours or a peer, over the same pictures."""
    random = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (work.classes * work.count, *work.shape), dtype=torch.uint8, generator=random)
    y = torch.arange(work.classes).repeat_interleave(work.count)
    if who == OURS:
        pool = ClassPool.grouped(x, [work.count] * work.classes, [str(index) for index in range(work.classes)])
        episodes = Episodes(pool, ways=work.ways, shots=1, queries=work.queries, batch=work.batch)
        numbers = itertools.count()

        def step() -> Any:
            episode = episodes[next(numbers)]
            return (episode.support.x, episode.query.x) if work.floats else episode  # bytes until somebody reads them

        return Contender(
            step,
            lambda: _sizes(
                [torch.cat([(e := episodes[0]).support.x[0], e.query.x[0]])], [e.support.y[0], e.query.y[0]]
            ),
            work.batch,
        )
    floats = x.float() / 255
    del x
    make = MAKERS[who](floats, y, work)

    def answer() -> Mapping[str, Tensor]:
        parts = list(make())[:4]
        return _sizes(parts[0::2], parts[1::2])

    return Contender(make, answer)


def _sizes(pictures: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
    """What an episode must have, whoever made it: so many pictures of each class, of this shape and range."""
    x = torch.cat(pictures)
    return {
        "examples of each class": torch.bincount(torch.cat(labels)),
        "shape": torch.tensor(x.shape),
        "in [0, 1]": ((x >= 0) & (x <= 1)).all(),
    }


def _plain(x: Tensor, y: Tensor, work: Sampling) -> Callable[[], Any]:
    """No library: a few tensor operations."""

    def make() -> tuple[Tensor, Tensor]:
        classes = torch.randperm(work.classes)[: work.ways]
        rows = torch.stack([torch.randperm(work.count)[: 1 + work.queries] for _ in classes])
        labels = torch.arange(work.ways).repeat_interleave(1 + work.queries)
        return x[(classes.unsqueeze(1) * work.count + rows).flatten()], labels

    return make


MAKERS: dict[str, Callable[[Tensor, Tensor, Sampling], Callable[[], Any]]] = {
    "learn2learn": lambda x, y, work: peers.learn2learn_episodes(x, y, work.ways, 1 + work.queries),
    "easyfsl": lambda x, y, work: peers.easyfsl_episodes(x, y, work.ways, 1, work.queries),
    "plain": _plain,
}


def checked(work: Sampling) -> Sampling:
    """The work on which episodes are compared: fewer pictures."""
    return replace(work, classes=2 * work.ways)


def flops(work: Sampling) -> None:
    """Sampling computes nothing."""


def tiny(work: Sampling) -> Sampling:
    """For a test that only wants to see it run."""
    return replace(work, classes=30, shape=(1, 8, 8), batch=min(work.batch, 4))
