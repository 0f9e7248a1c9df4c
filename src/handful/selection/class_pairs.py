"""Class pairs: classes that the learner confuses meet in a task more often.

Paper: Liu, Wang, Sahoo, Fang, Zhang & Hoi 2020, arXiv:2007.08735, greedy class-pair sampling.
    C(i, j) -> potentials        τ -> memory        α -> eagerness
    p̄(i, j) -> the mean probability that queries of i get for j, and queries of j for i
Departures:
    1. Confusions are those after the step on a task, not before it, so that a step is a function of (seed, t, state).
    2. τ and α have values of our own; the paper chooses them for each data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import numpy as np
import torch
from torch import Tensor

from ..data.episodes import Draw, Episodes
from ..errors import SpecError
from ..learner import Learner
from ..ops.seeds import generator
from .base import Selection

__all__ = ["ClassPairs"]


@final
class ClassPairs(Selection):
    """Classes drawn greedily, each with a probability that is the product of its potentials with those before.

    Args:
        episodes: as for `Selection`; its pool may have some ten thousand classes: potentials are a square of them.
        held_out: not used.
        learner: as for `Selection`.
        memory: τ, the power to which a potential is raised when its classes meet again, from 0 (no memory) to 1.
        eagerness: α, how much a confusion counts; 0 is uniform sampling.

    Raises:
        SpecError: a number out of range, or tasks that draw one class of a family at most.
    """

    paper = "Liu et al. 2020, arXiv:2007.08735"

    def __init__(
        self,
        episodes: Episodes,
        held_out: Episodes | None,
        learner: Learner,
        *,
        memory: float = 0.5,
        eagerness: float = 1.0,
    ) -> None:
        super().__init__(episodes, held_out, learner)
        if not 0 <= memory <= 1 or eagerness < 0:
            raise SpecError(
                f"class pairs: expected memory from 0 to 1 and eagerness of at least 0, got {memory} and {eagerness}"
            )
        if episodes.families:
            raise SpecError("class pairs: draws classes, whatever their family; expected families = false")
        self.memory, self.eagerness = memory, eagerness
        classes = episodes.pool.classes
        self.potentials = np.ones((classes, classes), dtype=np.float32)  # C, symmetric, 0 for a class with itself
        np.fill_diagonal(self.potentials, 0)
        self.totals = self.potentials.sum(1, dtype=np.float64)  # over each class's pairs

    def draw(self, t: int) -> Draw:
        """A pair with probability C(i, j), then class after class with Π C(i, k) over those chosen before."""
        random = generator("class pairs", self.episodes.seed, t)
        ways = int(random.integers(self.episodes.ways[0], self.episodes.ways[1] + 1))
        weights = np.tile(self.totals, (self.episodes.batch, 1))  # [B, C]
        chosen = []
        for place in range(ways):
            below = weights.cumsum(1)
            threshold = random.random((len(weights), 1)) * below[:, -1:]
            chosen.append((below <= threshold).sum(1))  # [B]
            weights = (weights if place else 1.0) * self.potentials[chosen[-1]]
        return self.episodes.draw(t, random.permuted(np.stack(chosen, 1), axis=1))

    def note(self, t: int, draw: Draw) -> None:
        """C(i, j) ← C(i, j)^τ · exp(α·p̄(i, j)) for the pairs of each task."""
        right = torch.nn.functional.one_hot(draw.query_y, draw.classes.shape[1]).float()  # [B, Q, N]
        given = right.mT @ self.answers(draw).float() / right.sum(1).clamp(min=1).unsqueeze(-1)  # [B, N, N], i to j
        confusions = ((given + given.mT) / 2).numpy()
        for classes, confusion in zip(draw.classes.numpy(), confusions, strict=True):
            pairs = np.ix_(classes, classes)
            self.potentials[pairs] = self.potentials[pairs] ** self.memory * np.exp(self.eagerness * confusion)
            self.potentials[classes, classes] = 0
        touched = np.unique(draw.classes)
        self.totals[touched] = self.potentials[touched].sum(1, dtype=np.float64)

    def state(self) -> Mapping[str, Tensor]:
        """The pairs that have met, and their potentials."""
        rows, columns = np.nonzero(np.triu(self.potentials, 1) != np.triu(np.ones_like(self.potentials), 1))
        pairs = torch.from_numpy(np.stack([rows, columns]))
        return {"pairs": pairs, "potentials": torch.from_numpy(self.potentials[rows, columns])}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        rows, columns = state["pairs"].numpy()
        self.potentials[rows, columns] = self.potentials[columns, rows] = state["potentials"].numpy()
        self.totals = self.potentials.sum(1, dtype=np.float64)
