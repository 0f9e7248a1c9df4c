"""Prototypes that a few wrong labels move little: medians, weighted means, trimmed means.

Paper: Liang, Rangrej, Petrovic & Hassner 2022, arXiv:2204.05494, whose baselines the first two are ("Few-shot learning
with noisy labels"). The trimmed mean is the classical one (Huber 1964, doi:10.1214/aoms/1177703732, on its kind).
Departures:
    1. Similarity is the negative squared distance, averaged over a class with the example itself, so that weights
       count examples; the paper leaves the example out, which takes the same share from all.
    2. The median is taken feature by feature, as the trimmed mean.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, final

import torch
from torch import Tensor, nn

from ...errors import SpecError, unknown_name
from ...learner import EmbeddingLearner
from ...ops.classes import membership
from ...ops.distances import squared_distances
from ...ops.precision import log_mass, precise
from ...ops.robust import class_medians, class_trimmed_means

__all__ = ["Centers", "RobustPrototypes"]


class Centers(NamedTuple):
    """What a support taught."""

    c: Tensor  # [B, N, F]


@final
class RobustPrototypes(EmbeddingLearner):
    """Prototypical networks with another center than the mean.

    Args:
        encoder: any module from [examples, *shape] to [examples, F].
        center: "median" of each feature; "similarity": mean weighted by the softmax, over a class, of how near an
            example is to the others on average; or "trimmed": mean of each feature without its extremes.
        temperature: what distances are divided by in the softmax of "similarity".
        trim: share of a class's examples that "trimmed" leaves out at either end.

    Raises:
        UnknownNameError: no such center.
        SpecError: a temperature of 0 or below, or `trim` not in [0, 0.5).
    """

    paper = "Liang, Rangrej, Petrovic & Hassner 2022, arXiv:2204.05494"
    kind = "metric"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        center: Literal["median", "similarity", "trimmed"] = "median",
        temperature: float = 1.0,
        trim: float = 0.2,
    ) -> None:
        super().__init__(encoder)
        if center not in ("median", "similarity", "trimmed"):
            raise unknown_name("center", center, ("median", "similarity", "trimmed"))
        if temperature <= 0 or not 0 <= trim < 0.5:
            raise SpecError(
                f"RobustPrototypes: expected a temperature above 0 and trim in [0, 0.5), got {temperature} and {trim}"
            )
        self.center, self.temperature, self.trim = center, temperature, trim

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Centers:
        """The center of each class."""
        if self.center == "median":
            return Centers(class_medians(z, y, ways, weight))
        if self.center == "trimmed":
            return Centers(class_trimmed_means(z, y, ways, self.trim, weight))
        z = precise(z)
        member = membership(y, ways, weight, dtype=z.dtype)  # [B, S, N]
        apart = squared_distances(z, z) @ (member / member.sum(1, keepdim=True))  # [B, S, N] mean over the class
        return Centers(torch.softmax(log_mass(member) - apart / self.temperature, 1).mT @ z)

    def predict_features(self, state: Centers, z: Tensor) -> Tensor:
        """Logits −‖f(x) − c_k‖²."""
        return -squared_distances(z, state.c)  # [B, Q, N]
