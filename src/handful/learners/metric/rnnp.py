"""RNNP: prototypes refined by hybrids of the examples of a class, so that wrong labels count less.

Paper: Mazumder, Singh & Namboodiri 2021, arXiv:2011.11067.
    hybrid α · z_i + (1 − α) · z_j, i and j of one class -> hybrids        α -> mix (0.9 in the authors' command)
    soft k-means from the class means -> refinements of c
Written from the paper's summary: the authors' number of hybrids and of refinements, and the width of their clusters,
are options here.
Departures:
    1. All ordered pairs of a class are mixed, each example with itself too (the example as it is), where the authors
       draw some partners for each: what was learned depends on no draw, and weights count examples.
"""

from __future__ import annotations

from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from ...errors import SpecError
from ...learner import EmbeddingLearner
from ...ops.classes import class_means, membership
from ...ops.distances import squared_distances
from ...ops.precision import log_mass, precise

__all__ = ["RNNP", "Refined"]


class Refined(NamedTuple):
    """What a support taught."""

    c: Tensor  # [B, N, F]


@final
class RNNP(EmbeddingLearner):
    """Robust nearest-neighbor prototypes. It has no weights of its own: any trained prototypical network can be one.

    Args:
        encoder: any module from [examples, *shape] to [examples, F].
        mix: α, the share of the first example of a pair.
        refinements: steps of soft k-means.
        temperature: what squared distances are divided by where hybrids choose their cluster.

    Raises:
        SpecError: `mix` not in [0, 1], fewer than one refinement, or a temperature of 0 or below.
    """

    paper = "Mazumder, Singh & Namboodiri 2021, arXiv:2011.11067"
    kind = "metric"

    def __init__(self, encoder: nn.Module, *, mix: float = 0.9, refinements: int = 5, temperature: float = 1.0) -> None:
        super().__init__(encoder)
        if not 0 <= mix <= 1 or refinements < 1 or temperature <= 0:
            raise SpecError(
                "RNNP: expected mix in [0, 1], at least one refinement and a temperature above 0, "
                f"got {mix}, {refinements} and {temperature}"
            )
        self.mix, self.refinements, self.temperature = mix, refinements, temperature

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Refined:
        """Soft k-means over the hybrids of all classes, from the class means."""
        z = precise(z)
        hybrids = (self.mix * z.unsqueeze(2) + (1 - self.mix) * z.unsqueeze(1)).flatten(1, 2)  # [B, S·S, F]
        member = membership(y, ways, weight, dtype=z.dtype)
        count = log_mass((member @ member.mT).flatten(1)).unsqueeze(-1)  # [B, S·S, 1] −∞ for pairs of two classes
        c = class_means(z, y, ways, weight)  # [B, N, F]
        for _ in range(self.refinements):
            cluster = torch.log_softmax(-squared_distances(hybrids, c) / self.temperature, -1)  # [B, S·S, N]
            c = torch.softmax(count + cluster, 1).mT @ hybrids
        return Refined(c)

    def predict_features(self, state: Refined, z: Tensor) -> Tensor:
        """Logits −‖f(x) − c_k‖²."""
        return -squared_distances(z, state.c)  # [B, Q, N]
