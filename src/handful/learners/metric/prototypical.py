"""Prototypical networks: a class is the mean of its embedded support.

Paper: Snell, Swersky & Zemel 2017, arXiv:1703.05175.
    c_k (eq. 1) -> Prototypes.c        p(y=k|x) (eq. 2) -> softmax of the logits
Departures: none.
"""

from __future__ import annotations

from typing import NamedTuple, final

from torch import Tensor

from ...learner import EmbeddingLearner
from ...ops.classes import class_means
from ...ops.distances import squared_distances

__all__ = ["Prototypes", "PrototypicalNetwork"]


class Prototypes(NamedTuple):
    """What a support taught."""

    c: Tensor  # [B, N, F]


@final
class PrototypicalNetwork(EmbeddingLearner):
    """Nearest class mean in a learned embedding, by squared Euclidean distance (summed over features)."""

    paper = "Snell, Swersky & Zemel 2017, arXiv:1703.05175"
    kind = "metric"

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Prototypes:
        """c_k = mean of f(x) over the support of class k (eq. 1)."""
        return Prototypes(class_means(z, y, ways, weight))  # [B, N, F]

    def predict_features(self, state: Prototypes, z: Tensor) -> Tensor:
        """Logits −‖f(x) − c_k‖² (eq. 2)."""
        return -squared_distances(z, state.c)  # [B, Q, N]
