"""Learners on frozen vectors: their names in tables, and how they are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from handful import Identity
from handful.learner import EmbeddingLearner
from handful.learners import BaselinePlus, Frozen, MetaOptNet, NearestNeighbor, PrototypicalNetwork

__all__ = ["HEADS", "RIDGES", "head"]

RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Strengths to choose from."""
SCALES = (10.0, 20.0, 40.0)
"""Scales of Baseline++, likewise."""

HEADS: dict[str, Callable[..., EmbeddingLearner]] = {
    **{f"ridge {strength:g}": lambda encoder, s=strength: Frozen(encoder, strength=s) for strength in RIDGES},
    "prototypes": PrototypicalNetwork,
    "prototypes, cosine": lambda encoder: PrototypicalNetwork(encoder, distance="cosine"),
    **{f"Baseline++ {scale:g}": lambda encoder, s=scale: BaselinePlus(encoder, scale=s) for scale in SCALES},
    "nearest neighbor": NearestNeighbor,
    "support vector machine": MetaOptNet,
}
"""By what a table calls them. None has anything to train but its encoder."""


def head(name: str, features: int | Sequence[int]) -> EmbeddingLearner:
    """A head on vectors as they are."""
    learner = HEADS[name](Identity(shape=[features] if isinstance(features, int) else features))
    learner.eval()
    return learner
