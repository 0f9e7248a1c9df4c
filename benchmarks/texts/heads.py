"""Learners on frozen vectors: their names in tables, and how they are made."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial

from handful import Identity
from handful.learner import EmbeddingLearner
from handful.learners import BaselinePlus, Frozen, NearestNeighbor, PrototypicalNetwork

__all__ = ["HEADS", "KINDS", "head", "kind_of"]

RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Strengths to choose from."""
SCALES, RATES = (10.0, 20.0), (0.1, 0.3)
"""Of Baseline++, likewise."""
PLUS = list(itertools.product(SCALES, RATES))

HEADS: dict[str, Callable[..., EmbeddingLearner]] = {
    **{f"ridge {strength:g}": partial(Frozen, strength=strength) for strength in RIDGES},
    "prototypes": PrototypicalNetwork,
    "prototypes, cosine": partial(PrototypicalNetwork, distance="cosine"),
    **{f"Baseline++ {s:g} {r:g}": partial(BaselinePlus, scale=s, rate=r) for s, r in PLUS},
    **{f"centered Baseline++ {s:g} {r:g}": partial(BaselinePlus, scale=s, rate=r, center=True) for s, r in PLUS},
    "nearest neighbor": NearestNeighbor,
}
"""By what a table calls them. None has anything to train but its encoder."""
KINDS = ("ridge", "prototypes", "Baseline++", "centered Baseline++", "nearest neighbor")


def head(name: str, features: int | Sequence[int]) -> EmbeddingLearner:
    """A head on vectors as they are."""
    learner = HEADS[name](Identity(shape=[features] if isinstance(features, int) else features))
    learner.eval()
    return learner


def kind_of(name: str) -> str:
    """The kind of a head, of those that differ in their numbers only."""
    return next(kind for kind in KINDS if name.startswith(kind))
